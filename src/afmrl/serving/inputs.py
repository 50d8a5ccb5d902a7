"""What requests hold, as offers: texts, images, both, chat messages, rows of a catalog."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from types import TracebackType
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from afmrl.data.clean import clean_text
from afmrl.data.offer import Offer
from afmrl.data.plain_text import plain_text
from afmrl.serving.limits import MOST_LISTED, Limits
from afmrl.serving.refusal import Refusal, of_field
from afmrl.serving.uploads import Uploads

_BARE_ADDRESS = re.compile(
    r"\s*(?:https?://\S+|data:\S+|\S+\.(?:jpe?g|png|webp|gif|bmp|tiff?|avif)(?:[?#]\S*)?)\s*", re.I
)
Id = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")]
ProductId = Annotated[str, StringConstraints(max_length=512, pattern=r"^[^\x00-\x1f\x7f]*$")]
MOST_NAMES = 200
"""Of any object of a request."""


def few_names(value: Any) -> Any:
    """Refuse an object of very many names before each of them is an error of its own."""
    if isinstance(value, dict) and len(value) > MOST_NAMES:
        raise ValueError(f"has {len(value):,} names, at most {MOST_NAMES} are read")
    return value


T = TypeVar("T")
Listed = Annotated[list[T], Field(max_length=MOST_LISTED, fail_fast=True)]
"""A list of a request: bounded, and read up to its first wrong value, for every error costs a thousand bytes."""
Attributes = Annotated[dict[str, str], BeforeValidator(few_names), Field(max_length=MOST_NAMES)]


class Strict(BaseModel):
    """Refuses names that it does not know."""

    model_config = ConfigDict(extra="forbid")

    _few_names = model_validator(mode="before")(few_names)


class TextImage(BaseModel):
    """A text, an image (base64, a data: URI, or with --fetch an address), or both."""

    text: str = ""
    image: str | None = None


class ImageUrl(BaseModel):
    """An image of a chat message: a data: URI, or with --fetch an address."""

    url: str


class ContentPart(BaseModel):
    """A part of a chat message: a text or an image."""

    type: Literal["text", "image_url", "image"]
    text: str | None = None
    image_url: ImageUrl | str | None = None
    image: str | None = None


class Message(BaseModel):
    """A chat message."""

    role: str = "user"
    content: str | Listed[ContentPart]


class OfferFields(Strict):
    """An offer as a shop sends it; every field may be left out, but not title and image both."""

    title: str = ""
    description: str = ""
    image: str | None = Field(None, description="Base64, a data: URI, or with --fetch an http(s) address.")
    category: str = ""
    seller: str = ""
    brand: str = ""
    gtin: str = ""
    mpn: str = ""
    link: str = Field("", description="Address of the offer's page.")
    attributes: Attributes = Field(default_factory=dict, description="What the seller states: color, size, …")


class Inputs:
    """Reads offers off requests; their images are files until it is closed.

    Args:
        limits: of texts.
        deadline: of the request.
    """

    def __init__(self, uploads: Uploads, limits: Limits, deadline: float) -> None:
        self._uploads, self._limits, self._deadline = uploads, limits, deadline
        self._files = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def read(self, value: str | TextImage, field: str) -> Offer:
        """An offer of a text, an image or both.

        Args:
            field: what an error calls it.

        Raises:
            Refusal: nothing in it, a text that is the address of an image, too long, an image that cannot be read.
        """
        if isinstance(value, str):
            return Offer(id=field, title=self._text(value, field, needed=True))
        if not value.image:
            return Offer(id=field, title=self._text(value.text, field, needed=True))
        return Offer(id=field, title=self._text(value.text, field), image=self._image(value.image, f"{field}.image"))

    def read_parts(self, parts: Iterable[ContentPart], field: str) -> Offer:
        """An offer of the parts of messages: their texts together, and at most one image."""
        texts: list[str] = []
        images: list[str] = []
        for part in parts:
            url = part.image_url.url if isinstance(part.image_url, ImageUrl) else part.image_url
            texts += [part.text] if part.text else []
            images += [image for image in (url, part.image) if image]
        if len(images) > 1:
            raise Refusal(400, f"{field}: holds {len(images)} images; give one image an input", param=field)
        return self.read(TextImage(text="\n".join(texts), image=images[0] if images else None), field)

    def read_messages(self, messages: Iterable[Message], field: str) -> Offer:
        """An offer of what the user says in chat messages."""
        parts: list[ContentPart] = []
        for message in messages:
            content = message.content
            parts += [ContentPart(type="text", text=content)] if isinstance(content, str) else content
        return self.read_parts(parts, field)

    def read_offer(self, fields: OfferFields, field: str, *, image: str | None = None) -> Offer:
        """An offer of a shop's fields, its texts without HTML and control characters, as a catalog's are.

        Args:
            image: the file of its image, where it is at hand already; "": it has none.
        """
        path = (self._image(fields.image, f"{field}.image") if fields.image else "") if image is None else image
        seller = _cleaned(self._text(fields.seller, f"{field}.seller", bare=True))
        link = clean_text(self._text(fields.link, f"{field}.link", bare=True))
        return Offer(
            id=field,
            title=_cleaned(self._text(fields.title, f"{field}.title", needed=not path)),
            description=_cleaned(self._text(fields.description, f"{field}.description", bare=True)),
            image=path,
            category=_cleaned(self._text(fields.category, f"{field}.category", bare=True)),
            attributes=self._attributes(fields, field),
            extra={name: value for name, value in (("seller", seller), ("link", link)) if value},
        )

    def _attributes(self, fields: OfferFields, field: str) -> dict[str, str]:
        stated = {name: value for name in ("brand", "gtin", "mpn") if (value := getattr(fields, name).strip())}
        for name, value in (stated | fields.attributes).items():
            self._text(name + value, f"{field}.attributes.{name[:40]}", bare=True)
        return {clean_text(name): _cleaned(value) for name, value in (stated | fields.attributes).items()}

    def _image(self, image: str, field: str) -> str:
        with of_field(field):
            content = self._uploads.content(image, self._deadline)
            return self._files.enter_context(self._uploads.held(content, self._deadline))

    def _text(self, text: str, field: str, *, needed: bool = False, bare: bool = False) -> str:
        most = self._limits.text_characters
        if len(text) > most:
            raise Refusal(413, f"{field}: has {len(text):,} characters, at most {most:,} are read", param=field)
        if needed and not text.strip():
            raise Refusal(400, f"{field}: is empty; give a text, an image, or both", param=field)
        if not bare and _BARE_ADDRESS.fullmatch(text):
            raise Refusal(
                400,
                f'{field}: is an address and would be read as words; for an image give {{"image": …}} with its bytes',
                param=field,
            )
        return text


def _cleaned(text: str) -> str:
    return plain_text(clean_text(text))
