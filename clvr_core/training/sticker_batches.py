"""Drawing many scenes at once, on the device that trains: the same pictures as stickers.render within 2 of 255."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..stickers.art import SIGN_BOARD, SIGN_INK, board, sticker
from ..stickers.backdrop import backdrop
from ..stickers.codes import DX, DY, KINDS, LOOK, LOOKS, NOUN, SIZE, WORD
from ..stickers.scene import BACKDROPS, CANVAS, CELL, GRID, LETTERS, MOST_LETTERS, NOUNS, SIGN, SIZES, looks

SIGN_KIND = KINDS.index(SIGN)


def cutouts() -> dict[str, np.ndarray]:
    """Return everything that is pasted, drawn once from the pictures.

    stickers: uint8 nouns x looks x sizes x 64 x 64 x 4; looks that a noun does not have repeat its natural one.
    board: uint8 64 x 64 x 4, a sign without a word.
    ink: uint8 5 x 5 x 26 x 64 x 64, how much of each pixel a letter covers, by the word's length - 1, the letter's
        position and the letter.
    backdrops: uint8 8 x 192 x 192 x 3.

    Raises BadInput if the pictures are not there.
    """
    stickers = np.stack(
        [
            np.stack(
                [
                    np.stack([sticker(noun, look if look in looks(noun) else LOOKS[0], size) for size in SIZES])
                    for look in LOOKS
                ]
            )
            for noun in NOUNS
        ]
    )
    blank = board("")
    ink = np.zeros((MOST_LETTERS, MOST_LETTERS, len(LETTERS), CELL, CELL), np.uint8)
    span = np.array(SIGN_BOARD, np.float32) - np.array(SIGN_INK, np.float32)
    for length in range(1, MOST_LETTERS + 1):
        for position in range(length):
            for index, letter in enumerate(LETTERS):
                word = " " * position + letter + " " * (length - position - 1)
                darker = (blank[..., :3].astype(np.float32) - board(word)[..., :3]) / span
                ink[length - 1, position, index] = (darker.mean(-1).clip(0, 1) * 255).round()
    return {
        "stickers": stickers,
        "board": blank,
        "ink": ink,
        "backdrops": np.stack([backdrop(name) for name in BACKDROPS]),
    }


def load_cutouts(path: Path | None = None) -> dict[str, np.ndarray]:
    """Return what `cutouts` gives, from a file made by `numpy.savez_compressed(path, **cutouts())` if one is named."""
    if path is None:
        return cutouts()
    with np.load(path) as saved:
        return {name: saved[name] for name in saved.files}


class BatchRenderer:
    """Draws scenes given as codes (stickers.codes) on one device."""

    def __init__(self, device: torch.device | str, prepared: dict[str, np.ndarray]) -> None:
        self.device = torch.device(device)
        pieces = torch.from_numpy(prepared["stickers"]).flatten(0, 2)  # straight alpha
        self.stickers = pieces.permute(0, 3, 1, 2).contiguous().to(self.device)
        self.board = torch.from_numpy(prepared["board"]).permute(2, 0, 1).to(self.device, torch.float32) / 255
        darker = [paper - ink for paper, ink in zip(SIGN_BOARD, SIGN_INK)]
        self.darker = torch.tensor(darker, device=self.device)[None, :, None, None] / 255
        self.ink = torch.from_numpy(prepared["ink"]).to(self.device)
        self.backdrops = (
            torch.from_numpy(prepared["backdrops"]).permute(0, 3, 1, 2).to(self.device, torch.float32) / 255
        )

    def __call__(self, cells: np.ndarray | torch.Tensor, backdrops: np.ndarray | torch.Tensor) -> torch.Tensor:
        """cells: int8 N x 9 x FIELDS; backdrops: int8 N. Return float32 N x 3 x 192 x 192 in 0..1."""
        what = torch.as_tensor(cells).to(self.device, torch.long)
        canvas = self.backdrops[torch.as_tensor(backdrops).to(self.device, torch.long)]
        count = len(canvas)
        canvas = canvas.view(count, 3, GRID, CELL, GRID, CELL).permute(0, 2, 4, 1, 3, 5).reshape(-1, 3, CELL, CELL)
        flat = what.flatten(0, 1)
        filled = torch.nonzero(flat[:, NOUN] > 0).squeeze(1)
        if len(filled):
            canvas = canvas.index_copy(0, filled, self._pasted(flat[filled], canvas[filled]))
        canvas = canvas.view(count, GRID, GRID, 3, CELL, CELL).permute(0, 3, 1, 4, 2, 5)
        return canvas.reshape(count, 3, CANVAS, CANVAS)

    def _pasted(self, what: torch.Tensor, under: torch.Tensor) -> torch.Tensor:
        kind = (what[:, NOUN] - 1).clamp(max=len(NOUNS) - 1)
        piece = self.stickers[(kind * len(LOOKS) + what[:, LOOK]) * len(SIZES) + what[:, SIZE]].float() / 255
        signs = torch.nonzero(what[:, NOUN] == SIGN_KIND).squeeze(1)
        if len(signs):
            piece = piece.index_copy(0, signs, self._signs(what[signs, WORD:]))
        side = torch.arange(CELL, device=self.device)
        rows = (side[None] - what[:, DY, None]).remainder(CELL)[:, None, :, None].expand(-1, 4, -1, CELL)
        columns = (side[None] - what[:, DX, None]).remainder(CELL)[:, None, None, :].expand(-1, 4, CELL, -1)
        piece = piece.gather(2, rows).gather(3, columns)
        return under + piece[:, 3:] * (piece[:, :3] - under)

    def _signs(self, words: torch.Tensor) -> torch.Tensor:
        length = (words > 0).sum(1).clamp(min=1) - 1
        cover = torch.zeros(len(words), CELL, CELL, device=self.device)
        for position in range(MOST_LETTERS):
            letter = words[:, position]
            cover += self.ink[length, position, (letter - 1).clamp(min=0)].float() / 255 * (letter > 0)[:, None, None]
        boards = self.board[None].expand(len(words), -1, -1, -1).clone()
        boards[:, :3] -= cover.clamp(max=1)[:, None] * self.darker
        return boards


def to_uint8(pictures: torch.Tensor) -> np.ndarray:
    """float N x 3 x H x W in 0..1 -> uint8 N x H x W x 3."""
    return (pictures.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
