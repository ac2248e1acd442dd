"""The contract of spaces as tests that a user's own space inherits in three lines; pytest runs them.

.. code-block:: python

    class TestMyNet(SpaceContract):
        def space(self):
            return MyNet(classes=10)
"""

from __future__ import annotations

import json
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from spaces.base import Segment, Space
from spaces.calling import Example, call


class SpaceContract(ABC):
    """What strategies, operators, workers and the ledger rely on.

    The space is made once for a class and shared by its tests; none of them may change it, which is a part of
    the contract.
    """

    population = 24
    """Sampled genomes that are looked at."""
    builds = 3
    """Of these, how many are built."""

    @abstractmethod
    def space(self) -> Space:
        """Return the space to test."""

    def inputs(self) -> Example | None:
        """Return the arguments of one forward call; without them, forward is not tested."""
        return None

    # -- helpers ---------------------------------------------------------------------------------------------

    @property
    def made(self) -> Space:
        cls = type(self)
        if "_made" not in vars(cls):
            cls._made = self.space()  # type: ignore[attr-defined]
        return cls._made  # type: ignore[attr-defined]

    def genomes(self, n: int | None = None, seed: int = 0) -> np.ndarray:
        return self.made.sample(self.population if n is None else n, np.random.default_rng(seed))

    def wild(self) -> np.ndarray:
        """Genomes within the choices of their loci, extremes included, before any repair."""
        choices = self.made.choices
        drawn = np.random.default_rng(1).integers(0, choices, size=(self.population, len(choices)))
        return np.concatenate([np.zeros((1, len(choices))), choices[None] - 1, drawn]).astype(np.uint8)

    def built(self, genome: np.ndarray) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.made.build(genome)

    # -- what it says of itself ------------------------------------------------------------------------------

    def test_its_report_is_plain_data(self) -> None:
        report = self.made.report()
        assert json.loads(json.dumps(report)) == report

    def test_settings_in_a_genome_are_those_that_it_may_hold(self) -> None:
        known = self.made.gene_values()
        for genome in self.genomes(8):
            for name, value in self.made.genes(genome).items():
                assert name in known, f"the setting {name!r} is not among {', '.join(known)}"
                assert not known[name] or value in known[name]

    def test_what_may_be_pruned_is_said_of_every_locus(self) -> None:
        genomes = self.genomes(4)
        active, units = self.made.active(genomes), self.made.units_of
        assert active.shape == genomes.shape and active.dtype == bool
        assert units.shape == (self.made.length,)
        assert units.max() < len(self.made.unit_layers)

    # -- segments --------------------------------------------------------------------------------------------

    def test_segments_are_a_tuple_of_segments(self) -> None:
        segments = self.made.segments
        assert isinstance(segments, tuple) and segments, "segments must be a tuple that is not empty"
        assert all(isinstance(segment, Segment) for segment in segments)

    def test_segment_names_are_unique(self) -> None:
        names = [segment.name for segment in self.made.segments]
        assert all(names) and len(set(names)) == len(names), (
            f"every segment needs a name of its own, got {names}"
        )

    def test_slices_cover_the_genome_in_order(self) -> None:
        covered = [locus for where in self.made.slices.values() for locus in range(where.start, where.stop)]
        assert covered == list(range(self.made.length))
        assert self.made.choices.shape == (self.made.length,)

    def test_alleles_name_segments_and_have_a_value_for_every_choice(self) -> None:
        choices = {segment.name: segment.choices for segment in self.made.segments}
        for name, values in self.made.alleles.items():
            assert name in choices, f"alleles: {name!r} is no segment"
            assert len(set(values)) == choices[name], (
                f"alleles: {name!r} needs {choices[name]} different values, got {values}"
            )

    # -- sampling --------------------------------------------------------------------------------------------

    def test_sample_has_shape_and_dtype(self) -> None:
        for n in (0, 1, 5):
            genomes = self.genomes(n)
            assert genomes.shape == (n, self.made.length), (
                f"sample({n}) must have the shape {(n, self.made.length)}, got {genomes.shape}"
            )
            assert genomes.dtype == np.uint8, f"genomes must be uint8, got {genomes.dtype}"

    def test_sample_is_within_the_choices(self) -> None:
        self.made.check(self.genomes())

    def test_sample_is_valid(self) -> None:
        genomes = self.genomes()
        assert (self.made.repair(genomes) == genomes).all(), (
            "repair changed a sampled genome: samples must be valid"
        )

    def test_same_generator_same_sample(self) -> None:
        assert (self.genomes(seed=3) == self.genomes(seed=3)).all(), (
            "sample must draw from the generator it is given and from nothing else"
        )

    def test_samples_vary(self) -> None:
        genomes = self.genomes(64)
        assert len(np.unique(genomes, axis=0)) > 1, "64 samples are all the same"
        assert (genomes != self.genomes(64, seed=1)).any(), "another generator must give another sample"

    def test_sample_leaves_the_global_generators_alone(self) -> None:
        before = str(np.random.get_state()), torch.random.get_rng_state()  # noqa: NPY002
        self.genomes()
        assert str(np.random.get_state()) == before[0]  # noqa: NPY002
        assert torch.equal(torch.random.get_rng_state(), before[1])

    # -- repair ----------------------------------------------------------------------------------------------

    def test_repair_gives_genomes_of_the_space(self) -> None:
        repaired = self.made.repair(self.wild())
        assert repaired.shape == self.wild().shape
        self.made.check(repaired)

    def test_repair_is_idempotent(self) -> None:
        once = self.made.repair(self.wild())
        assert (self.made.repair(once) == once).all(), "repairing twice must change nothing more"

    def test_repair_changes_no_more_than_necessary(self) -> None:
        wild = self.wild()[:8]
        for genome, repaired in zip(wild, self.made.repair(wild), strict=True):
            loci = np.flatnonzero(genome != repaired)[:32]
            back = np.repeat(repaired[None], len(loci), axis=0)
            back[np.arange(len(loci)), loci] = genome[loci]
            for locus, tried, again in zip(loci, back, self.made.repair(back), strict=True):
                assert (tried != again).any(), (
                    f"the genome is as valid without the change at locus {locus}: repair must be nearest"
                )

    def test_repair_leaves_its_argument_alone(self) -> None:
        wild = self.wild()
        self.made.repair(wild)
        assert (wild == self.wild()).all(), "repair must return a copy"

    def test_repaired_genomes_share_no_memory_with_the_argument(self) -> None:
        genomes = self.genomes()
        assert not np.shares_memory(self.made.repair(genomes), genomes), (
            "repair must return a copy, also of valid genomes"
        )

    def test_repair_treats_every_genome_alone(self) -> None:
        wild = self.wild()[:8]
        alone = np.concatenate([self.made.repair(genome[None]) for genome in wild])
        assert (self.made.repair(wild) == alone).all(), (
            "what repair makes of a genome must not depend on the others of the batch"
        )

    def test_repair_takes_an_empty_population(self) -> None:
        assert self.made.repair(self.genomes(0)).shape == (0, self.made.length)

    # -- building --------------------------------------------------------------------------------------------

    def test_build_gives_a_module(self) -> None:
        for genome in self.genomes(self.builds):
            assert isinstance(self.built(genome), nn.Module)

    def test_build_takes_the_repaired_extremes(self) -> None:
        for genome in self.made.repair(self.wild()[:2]):
            assert isinstance(self.built(genome), nn.Module)

    def test_build_is_determined_by_genome_and_seed(self) -> None:
        for genome in self.genomes(self.builds):
            first, second = self.built(genome).state_dict(), self.built(genome).state_dict()
            assert list(first) == list(second)
            for name, tensor in first.items():
                assert torch.equal(tensor, second[name]), (
                    f"{name} differs between two builds with the same seed of torch"
                )

    def test_builds_share_no_storage(self) -> None:
        genomes = [*self.genomes(2), *([] if self.made.base is None else [self.made.base])]
        owners: dict[int, int] = {}
        models = [self.built(genome) for genome in (genomes[0], *genomes)]
        for number, model in enumerate(models):
            for name, tensor in tensors(model):
                if tensor.numel():
                    other = owners.setdefault(tensor.untyped_storage().data_ptr(), number)
                    assert other == number, f"{name} shares its storage with another build: build must copy"

    def test_changing_a_built_model_changes_no_other(self) -> None:
        genome = self.genomes(1)[0]
        first = self.built(genome)
        before = {name: tensor.clone() for name, tensor in tensors(first)}
        with torch.no_grad():
            for _, tensor in tensors(first):
                tensor.copy_(torch.ones_like(tensor))
        for name, tensor in tensors(self.built(genome)):
            assert torch.equal(tensor, before[name]), f"{name} remembers what was done to an earlier build"

    def test_build_leaves_the_genome_alone(self) -> None:
        genome = self.genomes(1)[0]
        before = genome.copy()
        self.built(genome)
        assert (genome == before).all()

    def test_build_leaves_torch_settings_alone(self) -> None:
        before = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()
        self.built(self.genomes(1)[0])
        assert (torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()) == before

    def test_build_refuses_a_genome_that_is_too_short(self) -> None:
        assert raises(lambda: self.made.build(self.genomes(1)[0][:-1])), (
            "build must refuse a genome of another length"
        )

    def test_forward_runs_and_is_the_same_for_two_builds(self) -> None:
        inputs = self.inputs()
        if inputs is not None:
            for genome in self.genomes(self.builds):
                with torch.no_grad():
                    first, second = (flat(call(self.built(genome).eval(), inputs)) for _ in range(2))
                for a, b in zip(first, second, strict=True):
                    assert torch.equal(a, b)

    # -- description -----------------------------------------------------------------------------------------

    def test_description_has_the_same_keys_for_every_genome(self) -> None:
        keys = [tuple(self.made.describe(genome)) for genome in self.genomes()]
        assert keys[0] and len(set(keys)) == 1, (
            "describe must give the same names, in the same order, for every genome"
        )

    def test_description_is_plain(self) -> None:
        for genome in self.genomes():
            for name, value in self.made.describe(genome).items():
                assert isinstance(name, str) and type(value) in (int, float, str, bool), (
                    f"{name} = {value!r} is a {type(value).__name__}"
                )
            described = self.made.describe(genome)
            assert json.loads(json.dumps(described, allow_nan=False)) == described

    def test_description_tells_genomes_apart(self) -> None:
        genomes = self.genomes(64)
        assert len({json.dumps(self.made.describe(genome)) for genome in genomes}) > 1, (
            "64 different genomes have the same description"
        )

    # -- identity --------------------------------------------------------------------------------------------

    def test_fingerprint_is_a_text_that_stays(self) -> None:
        before = self.made.fingerprint
        self.genomes()
        self.built(self.genomes(1)[0])
        assert isinstance(before, str) and before and self.made.fingerprint == before

    def test_fingerprint_is_that_of_another_instance(self) -> None:
        made, again = self.made, self.space()
        assert again.fingerprint == made.fingerprint, (
            "a space that is made again must have the same fingerprint"
        )
        assert again.compatibility == made.compatibility, (
            "a space that is made again must have the same compatibility"
        )

    def test_base_is_a_valid_genome(self) -> None:
        base = self.made.base
        if base is not None:
            self.made.check(base[None])
            assert (self.made.repair(base[None])[0] == base).all(), "repair changed the base genome"

    # -- transport -------------------------------------------------------------------------------------------

    def test_packing_loses_nothing(self) -> None:
        for genome in self.genomes():
            packed = self.made.pack(genome)
            assert isinstance(packed, bytes) and (self.made.unpack(packed) == genome).all()
            assert self.made.unpack(packed).dtype == np.uint8

    def test_it_pickles(self) -> None:
        copy = pickle.loads(pickle.dumps(self.made))
        assert copy.fingerprint == self.made.fingerprint and copy.segments == self.made.segments
        assert (copy.sample(5, np.random.default_rng(0)) == self.genomes(5)).all()

    def test_a_pickled_copy_builds_the_same(self) -> None:
        genome = self.genomes(1)[0]
        copy = pickle.loads(pickle.dumps(self.made))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            theirs = dict(tensors(copy.build(genome)))
        for name, tensor in tensors(self.built(genome)):
            assert torch.equal(tensor, theirs[name]), f"{name} is another after pickling"

    # -- refusal ---------------------------------------------------------------------------------------------

    def test_wrong_dtype_is_refused(self) -> None:
        assert raises(lambda: self.made.check(self.genomes().astype(np.int64)))

    def test_wrong_shape_is_refused(self) -> None:
        assert raises(lambda: self.made.check(self.genomes()[:, :-1])) and raises(
            lambda: self.made.check(self.genomes(1)[0])
        )

    def test_alleles_out_of_range_are_refused(self) -> None:
        genomes = self.genomes(4)
        locus = int(self.made.choices.argmin())
        if self.made.choices[locus] < 256:
            genomes[2, locus] = self.made.choices[locus]
            assert raises(lambda: self.made.check(genomes))


def tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters and buffers by name, tied ones once."""
    return chain(model.named_parameters(), model.named_buffers())


def flat(outputs: object) -> list[Tensor]:
    """Return the tensors among outputs, in order."""
    if isinstance(outputs, Tensor):
        return [outputs]
    values = (
        outputs.values()
        if isinstance(outputs, dict)
        else outputs
        if isinstance(outputs, list | tuple)
        else ()
    )
    return [tensor for value in values for tensor in flat(value)]


def raises(call: Callable[[], object]) -> bool:
    """Whether the call refuses its arguments."""
    try:
        call()
    except (ValueError, IndexError):
        return True
    return False
