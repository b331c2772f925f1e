"""What was played once is not played again: outcomes by content, in the user's cache folder.

The key of an outcome is a digest of all that decides it: the model's and the attack's content and
source (see `bench.fingerprints`), the image with its id, label and target, the threat model, the
seed, the pool of starting images, and the versions of what was at work; for an attack whose result
may depend on the batch, the whole batch too. An entry is one file, written whole and renamed, with
a digest of its own: writers need no lock, and an entry that was torn or changed counts as absent
and is written again.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .datasets.cache import cache_dir
from .errors import UserError

if TYPE_CHECKING:
    from attacks import Attack

    from .datasets.types import Batch
    from .match import Match, Outcome

FORMAT = 1
"""Of an entry; a change makes all older ones absent."""

DIGEST_BYTES = 32


def results_folder() -> Path:
    """Where outcomes are kept; it need not exist yet."""
    return cache_dir() / "results"


class Store:
    """Entries by key: bytes in, the same bytes out, or nothing.

    Attributes:
        folder: of the entries.
        failure: why an entry could not be written, or None. A result that is not kept is still one,
            so that nothing is raised.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failure: str | None = None

    def get(self, key: str) -> bytes | None:
        """The content of an entry; None where there is none, or a torn or changed one."""
        try:
            written = self._path(key).read_bytes()
        except OSError:
            return None
        digest, content = written[:DIGEST_BYTES], written[DIGEST_BYTES:]
        return content if hashlib.sha256(content).digest() == digest else None

    def put(self, key: str, content: bytes) -> None:
        """Write an entry whole, in the place of one that is there."""
        path = self._path(key)
        temporary = path.with_name(f".{key}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(hashlib.sha256(content).digest() + content)
            temporary.replace(path)
        except OSError as error:
            self.failure = f"{self.folder}: {error.strerror}"

    def usage(self) -> tuple[int, int]:
        """How many entries there are, and their bytes."""
        sizes = [path.stat().st_size for path in self.folder.glob("??/[!.]*")]
        return len(sizes), sum(sizes)

    def clear(self) -> int:
        """Remove every entry; how many there were."""
        entries, _ = self.usage()
        shutil.rmtree(self.folder, ignore_errors=True)
        return entries

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key


@dataclass(frozen=True)
class Keys:
    """The keys of a match.

    Attributes:
        match: what is played.
        context: all that decides a result but the images, as digests and plain values.
        whole: whether an image's result may depend on its batch.
    """

    match: Match
    context: Mapping[str, Any]
    whole: bool

    @classmethod
    def of(cls, match: Match, versions: Mapping[str, str]) -> Keys:
        """The keys of a match whose model and attack were not asked anything yet.

        Raises:
            bench.fingerprints.NoFingerprint: one of them cannot be told by content.
        """
        from . import match as played
        from .fingerprints import fingerprint, sources

        context = {
            "format": FORMAT,
            "model": fingerprint(match.model, "model"),
            "attack": fingerprint(match.attack, "attack"),
            "threat": asdict(match.threat),
            "seed": match.seed,
            "pool": fingerprint(match.pool, "pool"),
            "sources": [sources("attacks"), fingerprint(played, "match")],
            "versions": dict(versions),
        }
        return cls(match, context, depends_on_batch(match.attack))

    def of_batch(self, batch: Batch) -> list[str]:
        """The key of each image of a batch that is played as it is."""
        from .match import criterion_of

        targets = criterion_of(self.match, batch).targets
        context = key_of(self.context)
        facts = [
            {
                "context": context,
                "id": image_id,
                "shape": list(batch.images.shape[1:]),
                "image": hashlib.sha256(batch.images[i].numpy().tobytes()).hexdigest(),
                "label": int(batch.targets[i]),
                "target": None if targets is None else int(targets[i]),
            }
            for i, image_id in enumerate(batch.ids)
        ]
        beside = key_of(facts) if self.whole else None
        return [key_of({**fact, "batch": beside}) for fact in facts]


def key_of(facts: Any) -> str:
    """A digest (hexadecimal) of what can be written as JSON."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def play(
    match: Match,
    store: Store | None,
    keys: Keys | None,
    *,
    batch_size: int = 64,
    skip: Collection[str] = frozenset(),
) -> Iterator[Outcome]:
    """`bench.match.play`, with outcomes from the store where it has them; those are `cached`.

    A batch's new outcomes are all kept before the first of them is yielded.

    Args:
        match, batch_size, skip: as there. Where a result may depend on the batch, a batch that is
            done in part is played whole again, so that a resumed run ends as if never stopped.
        store, keys: None to play everything and to keep nothing.

    Raises:
        UserError, attacks.UsageError: as there.
    """
    from .match import play_batch, without

    if batch_size < 1:
        raise UserError(f"the batch size is {batch_size}; wanted at least 1")
    whole = depends_on_batch(match.attack)
    for batch in match.dataset.batches(batch_size):
        wanted = without(batch, skip)
        if not wanted.ids:
            continue
        asked = batch if whole else wanted
        known: dict[str, Outcome] = {}
        names: dict[str, str] = {}
        if store is not None and keys is not None:
            names = dict(zip(asked.ids, keys.of_batch(asked), strict=True))
            known = {i: found for i, key in names.items() if (found := _read(store, key, i))}
            if whole and len(known) < len(asked.ids):
                known = {}
        left = without(asked, known)
        for outcome in play_batch(match, left) if left.ids else []:
            known[outcome.image_id] = outcome
            if store is not None and outcome.image_id in names:
                store.put(names[outcome.image_id], _written(outcome))
        yield from (known[image_id] for image_id in wanted.ids)


def remembered(
    store: Store | None, facts: Any, compute: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """What `compute` returned for the same facts before, or returns now: a JSON object.

    Args:
        store: None to compute.
        facts: all that decides it, as `key_of` takes it.
    """
    if store is None:
        return compute()
    key = key_of({"format": FORMAT, "remembered": facts})
    content = store.get(key)
    if content is None:
        content = json.dumps(compute()).encode()
        store.put(key, content)
    found: dict[str, Any] = json.loads(content)
    return found


def depends_on_batch(attack: Attack) -> bool:
    """Whether an image's result may depend on the batch that it is in.

    Ours do not (a contract test holds them to it), unless one inside them does. Foolbox draws its
    random numbers for the whole batch; what others write is not known.
    """
    from attacks.foolbox import FoolboxAttack

    from .adapters import ImageByImage

    if isinstance(attack, FoolboxAttack):
        return not attack.one_by_one
    if isinstance(attack, ImageByImage):
        return False
    if type(attack).__module__.partition(".")[0] != "attacks" or not is_dataclass(attack):
        return True
    return any(depends_on_batch(inner) for inner in _inner_attacks(attack))


def _inner_attacks(attack: Any) -> Iterator[Attack]:
    from attacks import Attack

    for field in fields(attack):
        value = getattr(attack, field.name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Attack):
                yield item


def _written(outcome: Outcome) -> bytes:
    """The outcome as JSON on one line, and behind it the image's bytes."""
    head: dict[str, Any] = {"outcome": outcome.to_json()}
    body = b""
    if outcome.image is not None:
        pixels = outcome.image.cpu().numpy()
        head["shape"] = list(pixels.shape)
        body = np.ascontiguousarray(pixels, dtype="<f4").tobytes()
    return zlib.compress(json.dumps(head).encode() + b"\n" + body, level=1)


def _read(store: Store, key: str, image_id: str) -> Outcome | None:
    import torch

    from .match import Outcome

    content = store.get(key)
    if content is None:
        return None
    try:
        head, _, body = zlib.decompress(content).partition(b"\n")
        written = json.loads(head)
        outcome = Outcome.from_json(written["outcome"])
        image = None
        if "shape" in written:
            pixels = np.frombuffer(body, dtype="<f4").reshape(written["shape"])
            image = torch.from_numpy(pixels.astype(np.float32))
    except (zlib.error, ValueError, TypeError, KeyError):  # another version's
        return None
    if outcome.image_id != image_id:
        return None
    return replace(outcome, image=image, cached=True)
