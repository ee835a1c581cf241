"""Pictures as servers read them, kept for a while: a canvas is shown several times a round."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from collections import OrderedDict
from typing import Literal

import numpy as np
from PIL import Image

from ..protocols import Picture

EXACT = 512
"""Pixels of the longer side up to which a picture is sent as PNG whatever the setting is."""
MOST = 64 * 2**20
"""Characters that are kept."""
Form = Literal["jpeg", "png"]


class EncodedPictures:
    """The data URLs of the pictures that were asked for last.

    side: pixels of the longer side to which larger pictures are scaled down.
    """

    def __init__(self, side: int, most: int = MOST) -> None:
        self.side, self.most = side, most
        self._held: OrderedDict[tuple[bytes, tuple[int, ...], Form], str] = OrderedDict()
        self._size, self._guard = 0, threading.Lock()

    def url(self, picture: Picture, form: Form) -> str:
        """Return the picture as a data URL. form: of pictures larger than EXACT."""
        key = hashlib.sha256(np.ascontiguousarray(picture).data).digest(), picture.shape, form
        with self._guard:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        made = self._encoded(picture, form)
        with self._guard:
            if key not in self._held:
                self._held[key] = made
                self._size += len(made)
            while self._size > self.most:
                self._size -= len(self._held.popitem(last=False)[1])
        return made

    def _encoded(self, picture: Picture, form: Form) -> str:
        image, file = Image.fromarray(picture), io.BytesIO()
        image.thumbnail((self.side, self.side), Image.Resampling.LANCZOS)
        form = form if max(image.size) > EXACT else "png"
        image.save(file, form, compress_level=1, quality=95, subsampling=0)
        return f"data:image/{form};base64,{base64.b64encode(file.getvalue()).decode()}"
