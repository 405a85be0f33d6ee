"""Classifiers of torchvision, timm and transformers by name: random weights, small images.

A name is `torchvision:resnet18`, `timm:levit_128s` (one network of each of timm's families) or
`transformers:ViTForImageClassification` (small, from a configuration).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from chiaroscuro import Classifier
from chiaroscuro.errors import first_line

SIZES = (64, 96, 112, 128, 160, 192, 224, 240, 256, 299, 384)
"""Images of so many pixels a side are tried, the smallest first."""
WITHOUT_TRANSFORMERS = {
    "DinatForImageClassification": "needs the package natten",
    "ImageGPTForImageClassification": "takes numbers of colors, not pixels",
    "ShieldGemma2ForImageClassification": "answers texts",
    "TimmWrapperForImageClassification": "is timm's own network",
}
"""Classifiers of transformers that are left out, and why."""


def names() -> list[str]:
    """Every network, by library."""
    from torchvision import models

    timm = [f"timm:{name}" for name in TIMM]
    kinds = [f"transformers:{kind}" for kind in _configurations()]
    return [*timm, *kinds, *(f"torchvision:{name}" for name in models.list_models(module=models))]


def build(name: str, classes: int, sizes: Sequence[int] = SIZES) -> tuple[nn.Module, int]:
    """A network in eval mode with weights of a fixed seed, and the pixels a side that it takes.

    The first of `sizes` at which two images have finite, different logits. Raises `ValueError` with
    what the last try raised.
    """
    library, _, own = name.partition(":")
    make = {"torchvision": _torchvision, "timm": _timm, "transformers": _transformers}[library]
    reason: Exception = ValueError(f"{name} has the same logits for every image")
    for size in sizes:
        torch.manual_seed(0)
        try:
            module = randomized(make(own, classes, size), size).requires_grad_(False)
            logits = Classifier(module)(torch.rand(2, 3, size, size))
        except Exception as error:  # libraries raise many kinds for a size that does not fit
            reason = ValueError(f"{name} at {size} px: {first_line(error)}")
            continue
        if bool(logits.isfinite().all()) and not torch.equal(logits[0], logits[1]):
            return module, size
    raise reason


def randomized(module: nn.Module, size: int) -> nn.Module:
    """Constants and statistics as trained ones: branches that start at zero take part.

    Batch normalizations have the statistics of four random images.
    """
    module.eval()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.numel() and _is_constant(parameter):
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.track_running_stats:
                part.momentum = 1.0
                part.train()
        module(torch.rand(4, 3, size, size))
    return module.eval()


def _is_constant(tensor: Tensor) -> bool:
    return bool((tensor == tensor.flatten()[0]).all())


def _torchvision(name: str, classes: int, size: int) -> nn.Module:
    from torchvision import models

    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": False}
    if name.startswith("vit_"):
        options = {"image_size": size}
    if name.startswith("maxvit"):
        options = {"input_size": (size, size)}
    module: nn.Module = models.get_model(name, weights=None, num_classes=classes, **options)
    return module


def _timm(name: str, classes: int, size: int) -> nn.Module:
    import timm

    try:
        module: nn.Module = timm.create_model(name, num_classes=classes, img_size=size)
    except TypeError:  # its networks take any size
        module = timm.create_model(name, num_classes=classes)
    return module


def _configurations() -> dict[str, str]:
    """The kind of configuration of each classifier of transformers."""
    from transformers.models.auto import modeling_auto

    listed = modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.items()
    kinds = ((kind, [each] if isinstance(each, str) else each) for kind, each in listed)
    every = {each: kind for kind, classes in kinds for each in classes}
    return {name: kind for name, kind in every.items() if name not in WITHOUT_TRANSFORMERS}


def _transformers(name: str, classes: int, size: int) -> nn.Module:
    import transformers

    kind = _configurations()[name]
    config = transformers.CONFIG_MAPPING[kind]
    options = {"num_labels": classes, "image_size": size, **_small(config()), **_OWN.get(kind, {})}
    if kind in ("clip", "metaclip_2", "siglip", "siglip2"):
        options = {
            "num_labels": classes,
            "vision_config": {**_SMALL, "image_size": size, "num_patches": (size // 16) ** 2},
            "text_config": _SMALL,
        }
    if kind == "hiera":
        options["image_size"] = (size, size)
    module: nn.Module = getattr(transformers, name)(config(**options))
    return _Patches(module) if kind == "siglip2" else module


def _small(config: Any) -> dict[str, int]:
    """Two layers of 48 features where a configuration has layers of one width."""
    return _SMALL if "num_hidden_layers" in vars(config) else {}


_SMALL = {
    "num_hidden_layers": 2,
    "hidden_size": 48,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "patch_size": 16,
}
_OWN: dict[str, dict[str, Any]] = {
    "efficientnet": {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280},
    "perceiver": {
        "num_latents": 16,
        "d_latents": 32,
        "num_self_attends_per_block": 2,
        "num_cross_attention_heads": 1,
    },
}


class _Patches(nn.Module):
    """SigLIP 2, which takes an image as a row of patches."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, pixels: Tensor) -> Any:
        """Its output for pixels (B, C, H, W)."""
        side = _SMALL["patch_size"]
        cut = pixels.unfold(2, side, side).unfold(3, side, side)
        patches = cut.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
        grid = torch.tensor(cut.shape[2:4]).expand(len(pixels), 2)
        return self.module(patches, torch.ones_like(patches[..., 0]).long(), grid)


TIMM = (
    "beit_base_patch16_224", "botnet26t_256", "halonet26t", "lambda_resnet26t", "bat_resnext26ts",
    "gcresnet33ts", "mobileone_s0", "repvgg_a0", "regnetz_b16_evos", "resnet50_clip",
    "cait_xxs24_224", "coat_tiny", "coat_lite_tiny", "convit_tiny", "convmixer_768_32",
    "convnext_atto", "convnextv2_atto", "cpubone_nano", "crossvit_9_dagger_240", "csatv2",
    "cspdarknet53", "cspnext_tiny", "davit_tiny", "deepseek_vit_412m",
    "deit_tiny_distilled_patch16_224", "deit3_small_patch16_224", "densenetblur121d", "dla46_c",
    "dla60_res2net", "dpn48b", "edgenext_xx_small", "efficientformer_l1", "efficientformerv2_s0",
    "efficientnet_b0_gn", "mixnet_s", "tf_efficientnet_lite0", "efficientvim_m1",
    "efficientvit_b0", "efficientvit_m0", "eva02_tiny_patch14_224", "fasternet_t0", "fastvit_t8",
    "fastvit_sa12", "focalnet_tiny_lrf", "gcvit_xxtiny", "gemma4_vit_167m", "ghostnet_050",
    "ghostnetv2_100", "hardcorenas_a", "hgnetv2_b0", "hiera_tiny_224", "sam2_hiera_tiny",
    "hrnet_w18_small", "iformer_t", "inception_next_atto", "inception_resnet_v2", "inception_v3",
    "inception_v4", "lcnetv2_small", "levit_128s", "levit_conv_128s", "lowformer_b0",
    "mambaout_femto", "coatnet_pico_rw_224", "coatnet_rmlp_nano_rw_224", "maxvit_pico_rw_256",
    "poolformer_s12", "convformer_s18", "mixer_s32_224", "resmlp_12_224", "gmlp_ti16_224",
    "mobilenetv3_small_050", "mobilenetv4_hybrid_medium_075", "mobilenetv5_base", "mobilevit_xxs",
    "mobilevitv2_050", "mvitv2_tiny", "naflexvit_base_patch16_gap", "nasnetalarge", "nest_tiny",
    "nextvit_small", "nfnet_l0", "dm_nfnet_f0", "nf_seresnet26", "pit_ti_224", "pnasnet5large",
    "pvt_v2_b0", "pvt_v2_b2_li", "qwen3_vit_88m", "rdnet_tiny", "regnetx_002", "regnety_002",
    "repghostnet_050", "repvit_m0_9", "res2net50_26w_4s", "resnest14d", "ecaresnet26t",
    "seresnet18", "resnet50_gn", "resnetv2_50x1_bit", "resnetv2_50d_frn", "rexnet_100",
    "selecsls42", "legacy_seresnet18", "sequencer2d_s", "shvit_s1", "skresnet18", "starnet_s050",
    "swiftformer_xs", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256",
    "swinv2_cr_tiny_ns_224", "tiny_vit_5m_224", "tnt_s_patch16_224", "tresnet_m",
    "twins_pcpvt_small", "twins_svt_small", "vgg11_bn", "visformer_tiny", "vit_tiny_patch16_224",
    "vit_tiny_r_s16_p8_224", "vit_relpos_small_patch16_224", "vit_srelpos_small_patch16_224",
    "samvit_base_patch16_224", "vitamin_small_224", "volo_d1_224", "ese_vovnet19b_slim_dw",
    "legacy_xception", "xception41", "xcit_nano_12_p16_224", "vit_small_patch16_224",
    "vit_small_patch14_dinov2",
)  # fmt: skip
"""A network of each of timm's families, and others with operations of their own or often used."""
