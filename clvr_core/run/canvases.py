"""The pictures, latents and masks of one run: the newest in memory, all in its store, each known by the digest it must
have."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..brief import Reference
from ..protocols import Drawing, Picture
from ..trajectory import Candidate, Remark, Trajectory
from ..verifier.changes import Pair
from .store import RunStore, digest_of

KEPT_IN_MEMORY = 8
BESIDE = 1 << 18
"""Bytes of a picture from which up its digest is made beside its saving: below, a thread costs more."""


class Canvases:
    """
    store: where the pictures are saved and read again.
    picture: canvas 0, if the run begins from a picture that is at hand; else canvas 0 is read from the store.
    digest: SHA-256 of the pixels of canvas 0; "" for a run that begins from nothing.
    named: the references of the brief.
    """

    def __init__(
        self,
        store: RunStore,
        picture: Picture | None = None,
        digest: str = "",
        named: Iterable[Reference] = (),
    ) -> None:
        self.store, self.named = store, tuple(named)
        self._references: dict[str, Picture] = {}
        self._pictures: dict[int, Picture] = {} if picture is None else {0: picture}
        self._digests: dict[int, str] = {0: digest} if digest else {}
        self._latents: dict[int, np.ndarray] = {}
        self._latent_digests: dict[int, str] = {}
        self._masks: dict[str, Picture] = {}
        self._pairs: dict[tuple[str, str], Pair] = {}

    def __len__(self) -> int:
        """How many pictures are held in memory here."""
        return len(self._pictures)

    def picture(self, canvas: int) -> Picture:
        """Raises BadInput if the picture is missing in the store, or is another one."""
        if canvas not in self._pictures:
            self._pictures[canvas] = self.store.picture(canvas, self._digests.get(canvas))
        return self._pictures[canvas]

    @property
    def references(self) -> dict[str, Picture]:
        """The named references of the brief, in its order. Raises BadInput as `picture` does."""
        for each in self.named:
            if each.name not in self._references:
                self._references[each.name] = self.store.reference(each.name, each.sha256)
        return self._references

    def pair(self, before: int, after: int) -> Pair | None:
        """The two pictures, with what was measured of them since the last `forget`; None if they differ in size."""
        first, second = self.picture(before), self.picture(after)
        if first.shape != second.shape:
            return None
        if before not in self._digests or after not in self._digests:
            return Pair(first, second)
        return self._pairs.setdefault((self._digests[before], self._digests[after]), Pair(first, second))

    def digests(self, *canvases: int) -> list[str]:
        """SHA-256 of the pixels of each canvas."""
        return [self._digests[canvas] for canvas in canvases]

    def latent(self, canvas: int) -> np.ndarray | None:
        """The latent that the canvas was decoded from; None if it was not kept. Raises BadInput as `picture` does."""
        if canvas not in self._latents and (digest := self._latent_digests.get(canvas)):
            self._latents[canvas] = self.store.latent(canvas, digest)
        return self._latents.get(canvas)

    def expect(self, candidates: Iterable[Candidate]) -> None:
        """Note the digests of candidates that are in the store."""
        for candidate in candidates:
            self._digests[candidate.canvas], self._latent_digests[candidate.canvas] = candidate.sha256, candidate.latent

    def add(self, canvas: int, seed: int, drawing: Drawing, trajectory: Trajectory) -> Candidate:
        """Save a drawing as this canvas, with the run so far in its metadata."""
        self._pictures[canvas] = drawing.picture
        latent = ""
        if drawing.latent is not None:
            self._latents[canvas], latent = drawing.latent, digest_of(drawing.latent)
        if drawing.picture.nbytes < BESIDE:
            digest = digest_of(drawing.picture)
            file = self.store.save_canvas(canvas, drawing, trajectory, seed)
        else:
            with ThreadPoolExecutor(1) as beside:
                # The digest takes ten milliseconds for 1 MP; meanwhile the disk is waited for.
                made = beside.submit(digest_of, drawing.picture)
                file = self.store.save_canvas(canvas, drawing, trajectory, seed)
            digest = made.result()
        candidate = Candidate(canvas, file, seed, digest, drawing.nfe, latent)
        self.expect([candidate])
        return candidate

    def mask(self, remark: Remark) -> Picture:
        """The mask that the artist painted with this remark, uint8 H x W. Raises BadInput as `picture` does."""
        if remark.mask not in self._masks:
            self._masks[remark.mask] = self.store.mask(remark.mask, remark.sha256)
        return self._masks[remark.mask]

    def add_mask(self, name: str, mask: Picture) -> str:
        """Save a mask and return its digest."""
        self._masks[name] = mask
        self.store.save_mask(name, mask)
        return digest_of(mask)

    def forget(self, wanted: Collection[int | None]) -> None:
        """Hold only the `wanted` canvases and the newest ones in memory; the others are read from the store when
        needed."""
        keep = {*wanted, *sorted(self._pictures)[-KEPT_IN_MEMORY:]}
        self._pictures = {canvas: picture for canvas, picture in self._pictures.items() if canvas in keep}
        self._pairs = {}
        self._latents = {canvas: latent for canvas, latent in self._latents.items() if canvas in keep}
