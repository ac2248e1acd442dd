"""A tiny text classifier of Hugging Face's transformers: pruned in a search, tuned by their Trainer, saved as
a folder that ``from_pretrained`` loads.

pip install secateur[transformers] datasets
python examples/huggingface_text.py                   # folders below runs/huggingface_text/models
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from datasets import Dataset
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from secateur import ChannelSpace, Data, Evolution, Finish, Loaders, Search, Training

WORDS, LENGTH = 32, 12


def sentences(samples: int = 600, seed: int = 0) -> Dataset:
    """Return sentences of random words: is word 3 in it more often than word 4? Your tokenised texts come
    here.
    """
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(3, WORDS, (samples, LENGTH), generator=generator)
    tokens[:, ::3] = torch.randint(3, 5, (samples, LENGTH // 3), generator=generator)
    labels = ((tokens == 3).sum(1) > (tokens == 4).sum(1)).long()
    columns = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}
    return Dataset.from_dict({name: column.tolist() for name, column in columns.items()}).with_format("torch")


def classifier() -> BertForSequenceClassification:
    """Return a tiny BERT; yours is ``AutoModelForSequenceClassification.from_pretrained(FOLDER)``."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return BertForSequenceClassification(BertConfig(vocab_size=WORDS, max_position_embeddings=16, **sizes))


def tune(model: nn.Module, data: Data, settings: Training) -> Iterator[dict[str, float]]:
    """Train a pruned model in place by the Trainer of transformers."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            per_device_train_batch_size=settings.batch_size,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
        )
        done = Trainer(model, arguments, train_dataset=sentences()).train()
        yield {"train_loss": done.training_loss}


def uniform(model: nn.Module, example: tuple[torch.Tensor, ...]) -> ChannelSpace:
    """Return the space whose models are plain ones of transformers."""
    return ChannelSpace(model, example, uniform=True)


def main(directory: str | Path = "runs/huggingface_text", evaluations: int = 60, epochs: int = 10) -> Path:
    """Search, and return the folder of the best model."""
    search = Search(
        classifier(),
        Loaders(sentences(), target="labels"),
        space=uniform,
        constraints=["macs <= 60%"],
        training=Training(epochs=epochs),
        strategy=Evolution(population=16),
        finish=Finish(members=1, epochs=2, tune=tune),
        directory=directory,
    )
    result = search.run(evaluations=evaluations)
    print(result.table())
    best = next(final for final in result.finals if final.folder)
    return Path(directory) / best.folder / "pretrained"


if __name__ == "__main__":
    print(f"AutoModelForSequenceClassification.from_pretrained({str(main())!r})")
