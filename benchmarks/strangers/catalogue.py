"""The models: what library they are of, how they are made, and what goes in. Configurations are small and
weights random, since it is the operations that count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

Inputs = tuple[Tensor, ...] | Mapping[str, Tensor]


@dataclass(frozen=True)
class Stranger:
    """A model of a library.

    Attributes:
        library: the package it comes from.
        make: returns the model, with random weights.
        inputs: returns the arguments of one forward call, by their places or names.
    """

    library: str
    make: Callable[[], nn.Module]
    inputs: Callable[[], Inputs]


def images(size: int = 64, channels: int = 3) -> Callable[[], Inputs]:
    """Return what makes a batch of two images."""
    return lambda: (torch.randn(2, channels, size, size),)


def words(vocabulary: int = 1000, length: int = 12, **more: Any) -> Callable[[], Inputs]:
    """Return what makes two sentences, by the names of transformers."""

    def make() -> Inputs:
        ids = torch.randint(2, vocabulary, (2, length))
        return {"input_ids": ids, **{name: ids if value is None else value for name, value in more.items()}}

    return make


def _timm(name: str, size: int = 64, **settings: Any) -> Stranger:
    return Stranger(
        "timm", lambda: import_module("timm").create_model(name, num_classes=7, **settings), images(size)
    )


def _torchvision(name: str, size: int = 64, part: str = "", **settings: Any) -> Stranger:
    module = f"torchvision.models{part and '.' + part}"
    given = {"num_classes": 7, "weights": None} | ({"weights_backbone": None} if part else {}) | settings
    return Stranger("torchvision", lambda: getattr(import_module(module), name)(**given), images(size))


def _transformers(
    model: str, config: str, inputs: Callable[[], Inputs] | None = None, **settings: Any
) -> Stranger:
    def make() -> nn.Module:
        library = import_module("transformers")
        made: nn.Module = getattr(library, model)(getattr(library, config)(**settings))
        return made

    return Stranger("transformers", make, inputs or words())


def _other(library: str, path: str, inputs: Callable[[], Inputs], *given: Any, **settings: Any) -> Stranger:
    module, _, name = path.rpartition(".")
    return Stranger(library, lambda: getattr(import_module(module), name)(*given, **settings), inputs)


def _yolo(name: str) -> Stranger:
    return Stranger(
        "ultralytics",
        lambda: import_module("ultralytics.nn.tasks").DetectionModel(f"{name}.yaml", nc=4, verbose=False),
        images(64),
    )


def _pytorchcv(name: str, size: int = 224, **settings: Any) -> Stranger:
    return Stranger(
        "pytorchcv",
        lambda: import_module("pytorchcv.model_provider").get_model(name, num_classes=7, **settings),
        images(size),
    )


def _graph(name: str, **settings: Any) -> Stranger:
    edges = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7, 1, 2], [1, 2, 3, 4, 5, 6, 7, 0, 0, 5]])
    return Stranger(
        "torch_geometric",
        lambda: getattr(import_module("torch_geometric.nn"), name)(8, 16, 2, 5, **settings),
        lambda: (torch.randn(8, 8), edges),
    )


_TEXT = {
    "vocab_size": 1000,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}
_LLAMA = _TEXT | {"num_key_value_heads": 2, "use_cache": False}
_IMAGE = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "image_size": 32,
    "patch_size": 8,
}
_PIXELS: Callable[[], Inputs] = lambda: {"pixel_values": torch.randn(2, 3, 32, 32)}  # noqa: E731
_SOUND: Callable[[], Inputs] = lambda: {"input_values": torch.randn(2, 800)}  # noqa: E731

_TIMM = (
    *(
        "resnet18",
        "resnet26d",
        "resnext26ts",
        "seresnet18",
        "res2net50_14w_8s",
        "ecaresnet26t",
    ),
    *("resnetv2_50", "nfnet_l0", "regnetx_002", "regnety_002", "mobilenetv2_050", "mobilenetv3_small_050"),
    *("mobilenetv4_conv_small", "efficientnet_b0", "tf_efficientnetv2_b0", "mixnet_s", "ghostnet_050"),
    *(
        "mnasnet_small",
        "hardcorenas_a",
        "densenet121",
        "dla34",
        "dpn48b",
        "vovnet39a",
        "repvgg_a0",
        "vgg11_bn",
    ),
    *("cspresnet50", "cspdarknet53", "hrnet_w18_small", "xception41p", "skresnet18"),
    *(
        "convnext_atto",
        "convnextv2_atto",
        "efficientvit_m0",
        "fastvit_t8",
        "repvit_m0_9",
    ),
    *("starnet_s1", "edgenext_xx_small", "poolformer_s12", "mobileone_s0", "lcnet_050", "tinynet_e"),
)
_VIT = ("vit_tiny_patch16_224", "deit_tiny_patch16_224", "mixer_s32_224", "gmlp_s16_224", "levit_128s")
_VISION = (
    *("resnet18", "resnet50", "resnext50_32x4d", "vgg11_bn", "densenet121", "googlenet", "mobilenet_v2"),
    *("mobilenet_v3_small", "mnasnet0_5", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "squeezenet1_1"),
    *("efficientnet_b0", "regnet_y_400mf", "convnext_tiny", "alexnet"),
)
_CV = (
    *("resnet10", "preresnet10", "resnext14_32x4d", "seresnet10", "ibn_resnet50", "shufflenet_g1_wd4"),
    *("menet108_8x1_g3", "squeezenet_v1_0", "darknet_tiny", "diracnet18v2", "fishnet99", "bninception"),
    *("igcv3_wd4", "fdmobilenet_wd4", "proxylessnas_cpu", "sknet50", "bagnet9", "spnasnet"),
)
_WAVE = {"conv_dim": (16, 16), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_feat_extract_layers": 2}
_MAMBA = {"vocab_size": 1000, "hidden_size": 64, "num_hidden_layers": 2, "state_size": 4, "use_cache": False}
_SWIN = {
    "image_size": 32,
    "patch_size": 4,
    "embed_dim": 24,
    "depths": [1, 1],
    "num_heads": [2, 4],
    "window_size": 4,
}
_GPT = {"vocab_size": 1000, "n_embd": 64, "n_layer": 2, "n_head": 4, "use_cache": False}
_T5 = {
    "vocab_size": 1000,
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 128,
    "num_layers": 2,
    "num_heads": 4,
    "use_cache": False,
    "decoder_start_token_id": 0,
}
_SMP = {"encoder_name": "resnet18", "encoder_weights": None, "classes": 3}
_MONAI = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2}
_UNET = {"channels": (8, 16, 32), "strides": (2, 2)}
_X = {"dim": 32, "depth": 2, "heads": 4}

CATALOGUE: dict[str, Stranger] = {
    **{f"timm/{name}": _timm(name) for name in _TIMM},
    **{f"timm/{name}": _timm(name, 224) for name in _VIT},
    "timm/swin_tiny": _timm("swin_tiny_patch4_window7_224", 224, depths=(1, 1, 1, 1)),
    "timm/coat_tiny": _timm("coat_tiny", 224),
    "timm/botnet26t_256": _timm("botnet26t_256", 256),
    "timm/inception_v3": _timm("inception_v3", 128),
    "timm/efficientformerv2_s0": _timm("efficientformerv2_s0", 224),
    **{f"torchvision/{name}": _torchvision(name) for name in _VISION},
    "torchvision/inception_v3": _torchvision("inception_v3", 96, init_weights=False),
    "torchvision/vit_b_16": _torchvision("vit_b_16", 224),
    "torchvision/swin_t": _torchvision("swin_t", 64),
    "torchvision/lraspp_mobilenet_v3_large": _torchvision("lraspp_mobilenet_v3_large", 64, "segmentation"),
    "torchvision/deeplabv3_mobilenet_v3_large": _torchvision(
        "deeplabv3_mobilenet_v3_large", 64, "segmentation"
    ),
    "torchvision/fcn_resnet50": _torchvision("fcn_resnet50", 64, "segmentation"),
    "transformers/bert": _transformers("BertForSequenceClassification", "BertConfig", **_TEXT),
    "transformers/roberta": _transformers("RobertaForSequenceClassification", "RobertaConfig", **_TEXT),
    "transformers/electra": _transformers("ElectraForSequenceClassification", "ElectraConfig", **_TEXT),
    "transformers/distilbert": _transformers(
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        vocab_size=1000,
        dim=64,
        n_layers=2,
        n_heads=4,
        hidden_dim=128,
    ),
    "transformers/deberta_v2": _transformers(
        "DebertaV2ForSequenceClassification", "DebertaV2Config", **_TEXT
    ),
    "transformers/gpt2": _transformers("GPT2LMHeadModel", "GPT2Config", **_GPT),
    "transformers/llama": _transformers("LlamaForCausalLM", "LlamaConfig", **_LLAMA),
    "transformers/mistral": _transformers("MistralForCausalLM", "MistralConfig", **_LLAMA),
    "transformers/qwen2": _transformers("Qwen2ForCausalLM", "Qwen2Config", **_LLAMA),
    "transformers/qwen3": _transformers("Qwen3ForCausalLM", "Qwen3Config", head_dim=16, **_LLAMA),
    "transformers/gemma2": _transformers("Gemma2ForCausalLM", "Gemma2Config", head_dim=16, **_LLAMA),
    "transformers/phi3": _transformers("Phi3ForCausalLM", "Phi3Config", pad_token_id=0, **_LLAMA),
    "transformers/mixtral": _transformers(
        "MixtralForCausalLM", "MixtralConfig", num_local_experts=4, **_LLAMA
    ),
    "transformers/opt": _transformers(
        "OPTForCausalLM",
        "OPTConfig",
        vocab_size=1000,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=128,
        word_embed_proj_dim=64,
        use_cache=False,
    ),
    "transformers/mamba": _transformers("MambaForCausalLM", "MambaConfig", **_MAMBA),
    "transformers/t5": _transformers(
        "T5ForConditionalGeneration", "T5Config", words(decoder_input_ids=None), **_T5
    ),
    "transformers/vit": _transformers("ViTForImageClassification", "ViTConfig", _PIXELS, **_IMAGE),
    "transformers/deit": _transformers("DeiTForImageClassification", "DeiTConfig", _PIXELS, **_IMAGE),
    "transformers/dinov2": _transformers("Dinov2Model", "Dinov2Config", _PIXELS, **_IMAGE),
    "transformers/swin": _transformers("SwinForImageClassification", "SwinConfig", _PIXELS, **_SWIN),
    "transformers/convnextv2": _transformers(
        "ConvNextV2ForImageClassification",
        "ConvNextV2Config",
        _PIXELS,
        hidden_sizes=[16, 24],
        depths=[1, 1],
        num_stages=2,
    ),
    "transformers/resnet": _transformers(
        "ResNetForImageClassification",
        "ResNetConfig",
        _PIXELS,
        embedding_size=16,
        hidden_sizes=[16, 32],
        depths=[1, 1],
        layer_type="basic",
    ),
    "transformers/segformer": _transformers(
        "SegformerForSemanticSegmentation",
        "SegformerConfig",
        lambda: {"pixel_values": torch.randn(2, 3, 64, 64)},
        hidden_sizes=[16, 16, 24, 32],
        depths=[1, 1, 1, 1],
        decoder_hidden_size=32,
    ),
    "transformers/wav2vec2": _transformers(
        "Wav2Vec2Model",
        "Wav2Vec2Config",
        _SOUND,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        **_TEXT,
        **_WAVE,
    ),
    **{f"pytorchcv/{name}": _pytorchcv(name) for name in _CV},
    "ultralytics/yolov5n": _yolo("yolov5n"),
    "ultralytics/yolov8n": _yolo("yolov8n"),
    "ultralytics/yolo11n": _yolo("yolo11n"),
    "monai/unet": _other(
        "monai",
        "monai.networks.nets.UNet",
        images(32, 1),
        num_res_units=1,
        **_MONAI,
        **_UNET,
    ),
    "monai/segresnet": _other(
        "monai",
        "monai.networks.nets.SegResNet",
        images(32, 1),
        init_filters=8,
        **_MONAI,
    ),
    "monai/attention_unet": _other(
        "monai",
        "monai.networks.nets.AttentionUnet",
        images(32, 1),
        **_MONAI,
        **_UNET,
    ),
    "monai/unetr": _other(
        "monai",
        "monai.networks.nets.UNETR",
        images(32, 1),
        img_size=(32, 32),
        feature_size=8,
        hidden_size=48,
        mlp_dim=96,
        num_heads=4,
        **_MONAI,
    ),
    **{
        f"smp/{name}": _other(
            "segmentation_models_pytorch", f"segmentation_models_pytorch.{name}", images(128), **_SMP
        )
        for name in ("Unet", "UnetPlusPlus", "FPN", "Linknet", "MAnet", "PSPNet", "PAN", "DeepLabV3Plus")
    },
    "x-transformers/encoder": _other(
        "x_transformers", "x_transformers.Encoder", lambda: (torch.randn(2, 10, 32),), **_X
    ),
    "x-transformers/rms_swiglu": _other(
        "x_transformers",
        "x_transformers.Encoder",
        lambda: (torch.randn(2, 10, 32),),
        use_rmsnorm=True,
        ff_glu=True,
        ff_swish=True,
        **_X,
    ),
    **{f"torch-geometric/{name}": _graph(name) for name in ("GCN", "GraphSAGE", "GIN", "GAT")},
}
"""Name -> model; names begin with the library's."""
