"""Models of Hugging Face's transformers, timm and torchvision; nothing is downloaded."""

from typing import TYPE_CHECKING

from spaces.lazy import lazily

if TYPE_CHECKING:
    from spaces.pretrained.loading import HuggingFace, load_pretrained
    from spaces.pretrained.named import Timm, Torchvision

__all__ = ["HuggingFace", "Timm", "Torchvision", "load_pretrained"]

__getattr__ = lazily(
    __name__,
    {
        "HuggingFace": "spaces.pretrained.loading",
        "Timm": "spaces.pretrained.named",
        "Torchvision": "spaces.pretrained.named",
        "load_pretrained": "spaces.pretrained.loading",
    },
)
