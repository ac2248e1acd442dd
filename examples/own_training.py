"""Training of your own: by Lightning, by the Trainer of transformers, or by accelerate. Each function stands
wherever a training of ours does: for the base model, among the evaluators, and for tuning at the end.

pip install secateur[transformers] lightning
python examples/own_training.py lightning             # or transformers, or accelerate
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from secateur import Data, DenseNet, Digits, Finish, Search
from secateur import TrainingSettings as Budget

Report = Callable[..., None]


class Batches(IterableDataset[dict[str, Any]]):
    """The training batches of a run by name, in another order in every epoch."""

    def __init__(self, data: Data, size: int) -> None:
        self.data, self.size, self.epoch = data, size, 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.epoch += 1
        order = torch.Generator().manual_seed(self.epoch)
        for inputs, targets in self.data.batches("train", self.size, order):
            yield {"inputs": inputs, "targets": targets}

    def __len__(self) -> int:
        return -(-self.data.size("train") // self.size)


def by_lightning(model: nn.Module, data: Data, budget: Budget, report: Report) -> None:
    """Train in place by the Trainer of Lightning."""
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: dict[str, Any], number: int) -> Tensor:
            self.loss = data.loss(self.model(batch["inputs"]), batch["targets"]).mean()
            return self.loss

        def on_train_epoch_end(self) -> None:
            report(last_loss=self.loss)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), budget.learning_rate)

    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = lightning.Trainer(max_epochs=budget.epochs, enable_progress_bar=False, **quiet)
    trainer.fit(Module(), DataLoader(Batches(data, budget.batch_size), batch_size=None))


def by_transformers(model: nn.Module, data: Data, budget: Budget, report: Report) -> None:
    """Train in place by the Trainer of transformers."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Ours(Trainer):
        def get_train_dataloader(self) -> DataLoader:
            return DataLoader(Batches(data, budget.batch_size), batch_size=None)

        def compute_loss(self, model: nn.Module, batch: dict[str, Any], *_: Any, **__: Any) -> Tensor:
            return data.loss(model(batch["inputs"]), batch["targets"]).mean()

    class Reporting(TrainerCallback):
        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            report()

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=budget.epochs,
            learning_rate=budget.learning_rate,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
        )
        Ours(model, arguments, train_dataset=Batches(data, 1), callbacks=[Reporting()]).train()


def by_accelerate(model: nn.Module, data: Data, budget: Budget, report: Report) -> None:
    """Train in place by accelerate."""
    from accelerate import Accelerator

    accelerator = Accelerator()
    optimiser = torch.optim.AdamW(model.parameters(), budget.learning_rate)
    model, optimiser = accelerator.prepare(model, optimiser)
    batches = Batches(data, budget.batch_size)
    for _ in range(budget.epochs):
        model.train()
        for batch in batches:
            loss = data.loss(model(batch["inputs"]), batch["targets"]).mean()
            optimiser.zero_grad()
            accelerator.backward(loss)
            optimiser.step()
        report(last_loss=loss)


WAYS = {"lightning": by_lightning, "transformers": by_transformers, "accelerate": by_accelerate}


def main(way: str, directory: str = "runs/own_training") -> None:
    """Train the base model, search, and tune the front, all in one way."""
    search = Search(
        DenseNet(),
        Digits(),
        constraints=["macs <= 50%"],
        training=WAYS[way],
        finish=Finish(members=2, tune=WAYS[way]),
        directory=f"{directory}/{way}",
    )
    print(search.run(evaluations=50).table())


if __name__ == "__main__":
    main(*sys.argv[1:2] or ["lightning"])
