"""A vision-language model in this process: any folder that transformers loads as an image-text-to-text model."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from ..errors import BadInput, JudgeFailure
from ..protocols import Decision, Message, Picture, Question, Reply
from ..text import one_line
from .constrain import Document, Grammars, likeliest
from .decisions import DECIDE, ONE_WORD, weigh, word
from .prefix import Reader, Run
from .prompt import THOUGHT_ENDS, Prompt, Prompter, Turn
from .quantised import Quantise, check_quantise, config_of
from .replies import in_words

if TYPE_CHECKING:
    from torch import Tensor

SPARE = 64
"""Tokens reserved beside thought and reply, for the marks that end a thought."""


@dataclass(frozen=True, slots=True)
class Local:
    """A vision-language model in a folder of this machine.

    folder: as published on the hub, with config.json, safetensors and the processor.
    device: as torch names it; `auto` takes a GPU if there is one.
    dtype: that the weights are loaded in.
    image_side: pixels of the longer side that pictures are scaled down to, at least 1.
    max_tokens: of a reply, at least 1.
    thinking: tokens that a thinking model may spend on a thought before each reply; 0 switches thinking off.
    quantise: bits of the weights, see `quantised`.
    """

    folder: str
    device: str = "auto"
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    image_side: int = 1024
    max_tokens: int = 1536
    thinking: int = 0
    quantise: Quantise = "none"

    def __post_init__(self) -> None:
        for name, least in (("image_side", 1), ("max_tokens", 1), ("thinking", 0)):
            if getattr(self, name) < least:
                raise BadInput(
                    f"{name} of the model in {self.folder} is {getattr(self, name)}; it must be at least {least}"
                )


class LocalVlm:
    """A `Vlm` in this process. Replies are greedy; with llguidance they are constrained to their schema, else it is
    asked for in words.

    Decisions are made of the probabilities of Yes and No at the first token; the pictures are read once for all questions
    and no text is generated. `check` is called before every forward pass. Tokens are counted as if no prefix were
    cached, so that a resumed run counts the same. A lock keeps calls of several threads apart. Raises BadInput for a
    model without tokens for Yes and No, or without marks around its thoughts if `thinking` is above 0.
    """

    def __init__(self, model: Any, processor: Any, settings: Local, check: Callable[[], None] = lambda: None) -> None:
        self.settings, self.check, self.name = settings, check, Path(settings.folder).name
        self.model, self.processor = model, processor
        tokenizer = processor.tokenizer
        self._prompter = Prompter(model, processor)
        self._reader = Reader(model, self._checked)
        self._stopped: BaseException | None = None
        self._ends = _ends(model, tokenizer)
        self._grammars = Grammars(tokenizer, model.config.get_text_config().vocab_size, sorted(self._ends))
        vocabulary = tokenizer.get_vocab().items()
        self._yes, self._no = (
            [token for text, token in vocabulary if word(text) == wanted] for wanted in ("yes", "no")
        )
        if not self._yes or not self._no:
            raise BadInput(
                f"the tokenizer in {settings.folder} has no tokens Yes and No, by which questions are decided; choose another model"
            )
        self._thought_ends = tokenizer.get_vocab().get(THOUGHT_ENDS)
        if settings.thinking and self._thought_ends is None:
            raise BadInput(
                f"the model in {settings.folder} does not mark its thoughts with {THOUGHT_ENDS}; leave thinking at 0"
            )
        self._lock = threading.Lock()

    def room(self, messages: Sequence[Message]) -> int | None:
        """Return the tokens left beside these messages and the longest reply, as `ChatWindow` says."""
        window = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if window is None:
            return None
        with self._alone():
            read = len(self._prompter.prompt(self._turns(messages)))
        return window - read - self.settings.thinking - self.settings.max_tokens - SPARE

    def request(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Prompt:
        """Return the prompt as `chat` reads it, to learn from."""
        return self._request(messages, None if self._grammars.start(schema) else schema)

    def question(self, images: Sequence[Picture], question: str) -> Prompt:
        """Return the prompt of one question as `decide` reads it, to learn from."""
        return self._prompter.prompt(_asked(tuple(map(self._image, images)), question))

    def _request(self, messages: Sequence[Message], worded: Mapping[str, Any] | None) -> Prompt:
        """worded: a schema that is asked for in words."""
        turns = self._turns(messages)
        if worded is not None:
            last = turns[-1]
            turns[-1] = Turn(last.role, (*last.parts, f"\n\n{in_words(worded)}"))
        return self._prompter.prompt(turns, thinking=self.settings.thinking > 0)

    def _turns(self, messages: Sequence[Message]) -> list[Turn]:
        return [Turn(message.role, (message.text, *map(self._image, message.images))) for message in messages]

    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        with self._alone():
            document = self._grammars.start(schema)
            prompt = self._request(messages, None if document else schema)
            run = self._reader.read(prompt)
            with self._reader.writing(run, self.settings.thinking + self.settings.max_tokens + SPARE):
                thoughts = self._think(run) if self.settings.thinking else 0
                tokens, finished = self._write(run, document)
            self._reader.finish(run)
            self.wrote(prompt, tokens)
            text = self.processor.tokenizer.decode(tokens, skip_special_tokens=True)
        return Reply(text, len(prompt) + thoughts + len(tokens), finished)

    def decide(self, images: Sequence[Picture], questions: Sequence[Question]) -> list[Decision]:
        """Decide each question by `weigh`."""
        if not questions:
            return []
        pictures = tuple(map(self._image, images))
        asked = [_asked(pictures, question.text) for question in questions]
        with self._alone():
            prompt, tails = self._prompter.shared(asked)
            run = self._reader.read(prompt)
            shares = [logits.softmax(-1) for logits in self._reader.continuations(run, tails)]
            self._reader.finish(run)
            found = [(float(share[self._yes].sum()), float(share[self._no].sum())) for share in shares]
        costs = [len(tail) + (len(prompt) if first else 0) for first, tail in zip((True, *[False] * len(tails)), tails)]
        return [weigh(yes, no, cost) for (yes, no), cost in zip(found, costs)]

    def choose(self, logits: Tensor, allowed: np.ndarray | None, place: int) -> int:
        """Return the token that stands at this place of the reply, here the likeliest one.

        logits: float32, vocabulary. allowed: bool, vocabulary, the tokens that the schema allows; None for all.
        """
        return likeliest(logits, allowed)

    def wrote(self, prompt: Prompt, tokens: Sequence[int]) -> None:
        """Called with each reply, thoughts left out; a model that learns from them keeps them."""

    def move(self, device: str) -> None:
        """Move the weights to the device and drop the cached prefixes."""
        with self._lock:
            self._reader.forget()
            self.model.to(device)

    def _write(self, run: Run, document: Document | None) -> tuple[list[int], bool]:
        """Return the tokens of the reply, and whether it is finished."""
        writing = self._writing(run.logits, document)
        try:
            tokens = next(writing)
            while True:
                self._reader.extend(run, tokens)
                tokens = writing.send(run.logits)
        except StopIteration as end:
            return end.value

    def _writing(
        self, logits: Tensor, document: Document | None
    ) -> Generator[list[int], Tensor, tuple[list[int], bool]]:
        """Yield the tokens to be read next, and take the logits after them. Returns the tokens of the reply, and whether it is
        finished. logits: after the prompt."""
        limit, written = self.settings.max_tokens, []
        pending = document.forced() if document else []
        while True:
            written += pending
            if document and document.complete:
                return written, True
            if len(written) >= limit:
                return written[:limit], False
            if pending:
                logits = yield pending
            allowed = document.allowed() if document else None
            token = self.choose(logits, allowed, len(written))
            if document:
                document.add(token)
            if token in self._ends:
                return written, True
            pending = [token, *(document.forced() if document else ())]

    def _think(self, run: Run) -> int:
        """Generate a thought of at most `thinking` tokens, end it, and return how many tokens were generated."""
        thoughts, close = 0, f"\n{THOUGHT_ENDS}\n\n"
        while thoughts < self.settings.thinking:
            token = int(run.logits.argmax())
            if token == self._thought_ends or token in self._ends:
                close = f"{THOUGHT_ENDS}\n\n"
                break
            self._reader.extend(run, [token])
            thoughts += 1
        ending = self.processor.tokenizer(close, add_special_tokens=False)["input_ids"]
        self._reader.extend(run, ending)
        return thoughts + len(ending)

    def _image(self, picture: Picture) -> Image.Image:
        image = Image.fromarray(picture)
        image.thumbnail((self.settings.image_side, self.settings.image_side), Image.Resampling.LANCZOS)
        return image

    def _checked(self) -> None:
        try:
            self.check()
        except BaseException as error:
            self._stopped = error
            raise

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other threads out. Raises JudgeFailure for whatever goes wrong in the model, and what `check` raises as
        it is.
        """
        import torch

        with self._lock, torch.inference_mode():
            try:
                yield
            except torch.OutOfMemoryError as error:
                self._reader.forget()
                side = self.settings.image_side
                raise JudgeFailure(
                    f"{self.name} ran out of memory; lower image_side, now {side}, or choose a smaller model"
                ) from error
            except JudgeFailure:
                raise
            except Exception as error:  # the model's own code and its processor raise any kind
                if error is self._stopped:
                    raise
                self._reader.forget()
                said = one_line(f"{type(error).__name__}: {error}", 300)
                raise JudgeFailure(f"{self.name} failed while reading ({said})") from error


def _asked(pictures: Sequence[Image.Image], question: str) -> tuple[Turn, Turn]:
    return Turn("system", (DECIDE,)), Turn("user", (*pictures, f"{question}\n{ONE_WORD}"))


def _ends(model: Any, tokenizer: Any) -> set[int]:
    """Return the ids of the tokens that end a reply."""
    known = [tokenizer.eos_token_id]
    stated = model.generation_config.eos_token_id if model.generation_config else None
    known += stated if isinstance(stated, list) else [stated]
    return {token for token in known if token is not None}


def load_local(settings: Local, check: Callable[[], None] = lambda: None) -> LocalVlm:
    """Load a model from its folder alone: nothing is downloaded, code in it is not run, weights are read from
    safetensors only.

    check: called before every forward pass.

    Raises BadInput naming the folder if it is missing, damaged, incomplete, or of a model without a vision part, and
    naming the device if it cannot be used.
    """
    import torch

    folder = Path(settings.folder)
    if not (folder / "config.json").is_file():
        raise BadInput(f"{folder} is not the folder of a model: it holds no config.json; give the folder that does")
    device = _device(settings.device)
    check_quantise(settings.quantise, device.type)
    try:
        with _quietly():
            _require_vision(folder)
            processor = _processor(folder)
            model = _model(folder, getattr(torch, settings.dtype), settings.quantise, device)
        Prompter(model, processor).text([Turn("user", ("What is this?", Image.new("RGB", (64, 64))))])
    except BadInput:
        raise
    except ImportError as error:
        said = one_line(str(error), 300)
        raise BadInput(
            f"the model in {folder} needs a package that is not installed here ({said}); install it, or choose another model"
        ) from error
    except (
        Exception
    ) as error:  # transformers, tokenizers, safetensors and json each raise their own kinds for a damaged folder
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BadInput(f"the model in {folder} cannot be loaded: {first[:300]}; download the folder again") from error
    try:
        # Quantised weights are on the device since they were read.
        model = model.to(device) if settings.quantise == "none" else model
    except torch.OutOfMemoryError as error:
        raise BadInput(
            f"the model in {folder} does not fit into the memory of {device}; choose a smaller one or device cpu"
        ) from error
    return LocalVlm(model.eval().requires_grad_(False), processor, settings, check)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silence transformers: what it prints about weights is in the error, if there is one."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _device(name: str) -> Any:
    import torch

    if name == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for the device
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BadInput(
            f"device {name!r} cannot be used here: {first[:200]}; choose auto, cpu or one that this machine has"
        ) from error
    return torch.device(name)


def _require_vision(folder: Path) -> None:
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise BadInput(
            f"{folder.name} is a {config.model_type} model, which has no vision part; choose a vision-language model"
        )


def _model(folder: Path, dtype: Any, quantise: Quantise, device: Any) -> Any:
    from transformers import AutoModelForImageTextToText

    options = {"dtype": dtype, "local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    if quantise != "none":
        options |= {"quantization_config": config_of(quantise, dtype), "device_map": {"": device}}
    loaded: Any = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True, **options)
    model, info = loaded
    # transformers fills missing tensors with random numbers; a random vision part sees nothing and raises no error.
    if missing := sorted(info["missing_keys"]):
        raise BadInput(
            f"the weights in {folder} are incomplete: {len(missing)} tensors are missing, such as {missing[0]}; download it again"
        )
    return model


def _processor(folder: Path) -> Any:
    from transformers import AutoProcessor
    from transformers.utils import is_torchvision_available

    if is_torchvision_available():
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    else:
        processor = _without_video(folder)
    if not getattr(processor, "image_processor", None):
        raise BadInput(f"{folder} has no image processor (preprocessor_config.json); download the folder again")
    if not (processor.chat_template or processor.tokenizer.chat_template):
        raise BadInput(f"{folder} has no chat template; choose a model that was made for instructions")
    return processor


class _NoVideo(dict[str, Any]):
    """Stands in for a processor's video part, from which some processors read settings for prompts without video. A
    dict, since transformers writes the parts as JSON.
    """

    model_input_names: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> None:
        return None


def _without_video(folder: Path) -> Any:
    """Build the folder's processor without its video part, the only one that needs torchvision."""
    from transformers import PROCESSOR_MAPPING, AutoConfig, AutoImageProcessor, AutoTokenizer
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

    own = {"local_files_only": True, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(folder, **own)
    # By backend since transformers 5, before that the slow and the fast one.
    readers: Any = IMAGE_PROCESSOR_MAPPING_NAMES.get(config.model_type)
    if readers and not (readers.get("pil") if isinstance(readers, dict) else readers[0]):
        raise ImportError(f"{config.model_type} has no image processor without torchvision")
    kind: Any = PROCESSOR_MAPPING[type(config)]
    without_video: Any = type(
        kind.__name__, (kind,), {"check_argument_for_proper_class": lambda self, name, part: None}
    )
    parts = {"image_processor": AutoImageProcessor, "tokenizer": AutoTokenizer}
    settings, _ = kind.get_processor_dict(folder, **own)
    # transformers 5 reads the names of the parts from the signature, 4 keeps a list of them.
    names = kind.get_attributes() if hasattr(kind, "get_attributes") else kind.attributes
    made = [parts[name].from_pretrained(folder, **own) if name in parts else _NoVideo() for name in names]
    return without_video.from_args_and_dict(made, settings)
