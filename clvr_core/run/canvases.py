"""The canvases and masks of one run: the newest in memory, all on disk, each known by the digest of what it must hold."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..protocols import Drawing, Picture
from ..storage.png import save_png
from ..trajectory import Candidate, Remark, Step, Trajectory
from .run_folder import BEST, RunFolder, digest_of

KEPT_IN_MEMORY = 8


class Canvases:
    """`folder` None keeps everything in memory. `picture`: what the run begins from; a run that is gone on with has it on disk, with
    that digest."""

    def __init__(self, folder: RunFolder | None, picture: Picture | None = None, digest: str = "") -> None:
        self.folder = folder
        self._pictures: dict[int, Picture] = {} if picture is None else {0: picture}
        self._digests: dict[int, str] = {0: digest} if digest else {}
        self._latents: dict[int, np.ndarray] = {}
        self._latent_digests: dict[int, str] = {}
        self._masks: dict[str, Picture] = {}
        self._told: dict[int, tuple[Step, str]] = {}

    def __len__(self) -> int:
        """Pictures in memory."""
        return len(self._pictures)

    def picture(self, canvas: int) -> Picture:
        """Raises BadInput if it is on disk no more, or another."""
        if canvas not in self._pictures:
            self._pictures[canvas] = self.folder.picture(canvas, self._digests.get(canvas))
        return self._pictures[canvas]

    def digests(self, *canvases: int) -> list[str]:
        """SHA-256 of the pixels of each."""
        return [self._digests[canvas] for canvas in canvases]

    def latent(self, canvas: int) -> np.ndarray | None:
        """What the canvas was decoded from, if that was kept."""
        if canvas not in self._latents and self._latent_digests.get(canvas):
            self._latents[canvas] = self.folder.latent(canvas, self._latent_digests[canvas])
        return self._latents.get(canvas)

    def expect(self, candidates: Iterable[Candidate]) -> None:
        """These are on disk."""
        for candidate in candidates:
            self._digests[candidate.canvas], self._latent_digests[candidate.canvas] = candidate.sha256, candidate.latent

    def add(self, canvas: int, seed: int, drawing: Drawing, trajectory: Trajectory) -> Candidate:
        """Keeps and writes what was drawn, with the run so far in its metadata."""
        self._pictures[canvas] = drawing.picture
        file = latent = ""
        if drawing.latent is not None:
            self._latents[canvas], latent = drawing.latent, digest_of(drawing.latent)
        with ThreadPoolExecutor(1) as beside:
            # Ten milliseconds for 1 MP, in which the disk is waited for.
            digest = beside.submit(digest_of, drawing.picture)
            if self.folder:
                path = self.folder.canvas_path(canvas)
                with self.folder.writing():
                    save_png(path, drawing.picture, trajectory, canvas, self._told, self.folder.texts)
                    if drawing.latent is not None:
                        self.folder.save_latent(canvas, drawing.latent)
                file = path.name
        candidate = Candidate(canvas, file, seed, digest.result(), drawing.nfe, latent)
        self.expect([candidate])
        return candidate

    def save_best(self, trajectory: Trajectory) -> None:
        """Writes the best canvas once more, with the whole run in its metadata, if there is one."""
        if trajectory.best is None:
            return
        picture = self.picture(trajectory.best)
        with self.folder.writing():
            save_png(self.folder.path / BEST, picture, trajectory, trajectory.best, self._told, self.folder.texts)

    def mask(self, remark: Remark) -> Picture:
        if remark.mask not in self._masks:
            self._masks[remark.mask] = self.folder.mask(remark.mask, remark.sha256)
        return self._masks[remark.mask]

    def add_mask(self, name: str, mask: Picture) -> str:
        """Its digest."""
        self._masks[name] = mask
        if self.folder:
            self.folder.keep_mask(name, mask)
        return digest_of(mask)

    def forget(self, wanted: Collection[int | None]) -> None:
        """Keeps those and the newest in memory; the rest can be read back."""
        if self.folder is None:
            return
        keep = {*wanted, *sorted(self._pictures)[-KEPT_IN_MEMORY:]}
        self._pictures = {canvas: picture for canvas, picture in self._pictures.items() if canvas in keep}
        self._latents = {canvas: latent for canvas, latent in self._latents.items() if canvas in keep}
