"""Tiny CLIPs and SigLIPs with random weights and tokenizers that were trained on a few words."""

import io
import json
from pathlib import Path

import sentencepiece
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    GemmaTokenizer,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
    SiglipTokenizer,
)

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

WORDS = ["a photo of a cat", "a drawing of a dog", "the bird on a red car", "three small ants"]
PLACES = {"clip": 77, "siglip": 64}
"""Tokens that the text towers read, by the type of the model."""
SIDE = 24
WIDTH = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
TOWER = {**WIDTH, "intermediate_size": 24}
VISION = {**TOWER, "image_size": SIDE, "patch_size": 8}


def clip_tokenizer(folder):
    """Byte-pair encoding with CLIP's word ends, from a vocab.json and a merges.txt."""
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = normalizers.Lowercase()
    splits = pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.pre_tokenizer = pre_tokenizers.Sequence(list(splits))
    signs = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, end_of_word_suffix="</w>", initial_alphabet=signs, show_progress=False
    )
    trained.train_from_iterator(WORDS, trainer)
    vocab, merges = trained.model.save(str(folder))
    known = trained.get_vocab()
    for word in (*(f"{sign}</w>" for sign in sorted(signs)), "<|startoftext|>", "<|endoftext|>"):
        known.setdefault(word, len(known))
    Path(vocab).write_text(json.dumps(known))
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=PLACES["clip"])


def clip(folder, **options):
    """A CLIP and its processor; `folder` is for the tokenizer's files."""
    tokenizer = clip_tokenizer(folder)
    words = {"vocab_size": len(tokenizer), "max_position_embeddings": PLACES["clip"]}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = CLIPConfig(
        text_config={**TOWER, **words, **ends}, vision_config=VISION, projection_dim=12, **options
    )
    images = CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    return lively(CLIPModel(config)), CLIPProcessor(images, tokenizer)


def siglip_tokenizer(folder):
    """A SentencePiece model, as the first SigLIP has."""
    trained = folder / "spiece.model"
    with io.BytesIO() as written:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(WORDS), model_writer=written, vocab_size=40, minloglevel=2,
            unk_id=0, eos_id=1, bos_id=-1, pad_id=-1, hard_vocab_limit=False,
        )  # fmt: skip
        trained.write_bytes(written.getvalue())
    return SiglipTokenizer(str(trained), model_max_length=PLACES["siglip"])


def gemma_tokenizer(folder):
    """Byte-pair encoding with "▁" for spaces, as SigLIP 2 has."""
    marks = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = sorted({*"".join(WORDS)} - {" "} | {"▁"})
    vocab = {word: index for index, word in enumerate([*marks, *letters, "ca", "cat", "do", "dog"])}
    merges = [("c", "a"), ("ca", "t"), ("d", "o"), ("do", "g")]
    return GemmaTokenizer(vocab=vocab, merges=merges, model_max_length=PLACES["siglip"])


def siglip(folder, tokenizer=siglip_tokenizer, **options):
    """A SigLIP and its processor."""
    made = tokenizer(folder)
    text = {**TOWER, "vocab_size": len(made), "max_position_embeddings": PLACES["siglip"]}
    text["projection_size"] = TOWER["hidden_size"]
    config = SiglipConfig(text_config=text, vision_config=VISION, **options)
    images = SiglipImageProcessor(size={"height": SIDE, "width": SIDE})
    return lively(SiglipModel(config)), SiglipProcessor(images, made)


def siglip2(folder, **options):
    """A SigLIP 2 of one resolution: SigLIP's network with Gemma's tokenizer."""
    return siglip(folder, gemma_tokenizer, **options)


def lively(model):
    """Weights so large that texts and images differ; transformers' own are nearly zero."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
            else:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


FAMILIES = {"clip": clip, "siglip": siglip, "siglip2": siglip2}


def save(folder, family="clip", **options):
    """A folder as `save_pretrained` writes it, and what is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    model, processor = FAMILIES[family](folder, **options)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor


def own_logits(model, processor, prompts, pixel_values):
    """`logits_per_image` of the whole model, its text tower and all, as transformers' pipeline."""
    kind = model.config.model_type
    padding = {"clip": "longest", "siglip": "max_length"}[kind]
    tokens = processor.tokenizer(
        prompts, padding=padding, max_length=PLACES[kind], truncation=True, return_tensors="pt"
    )
    return model(**tokens, pixel_values=pixel_values).logits_per_image
