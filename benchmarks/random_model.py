"""A model of random weights as a GGUF file, so that tests and benchmarks run a real llama.cpp with nothing downloaded.

    python -m benchmarks.random_model tiny.gguf
    python -m benchmarks.random_model large.gguf --width 768 --layers 14

It shows that the plumbing holds and how fast it is; of quality it says nothing. What it writes is noise, but noise that
ends: replies are about forty tokens, JSON strings close, and no byte beyond ASCII appears. For that each token needs a
bias, which the llama architecture does not have. So channel 0 of the residual stream is held constant (every embedding
has the same value there, no block writes to it), and column 0 of the output matrix is the bias.

The vocabulary is byte-level BPE, learned from the shipped prompts: they come to about as many tokens as with a real
model.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from evol.shipped import shipped

Merge = tuple[str, str]
END = "<|im_end|>"
CONTROL = ("<|begin|>", "<|im_start|>", END)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
REPLY_TOKENS = 40  # of a reply on the average
NEVER = -30.0  # as a bias: not drawn in a lifetime
LESS = -0.9  # for what begins a "true", so that a judge finds a gain now and then


def write_model(
    path: Path, *, width: int = 128, layers: int = 2, heads: int = 4, merges: int = 500, context: int = 8192
) -> int:
    """Writes the file; returns the number of its parameters. Equal arguments give equal files."""
    learned = _learn_merges(merges)
    tokens = [*_byte_symbols(), *(left + right for left, right in learned), *CONTROL]
    feed_forward = width * 8 // 3 // 32 * 32
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("random")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // heads)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    _add_tokenizer(writer, tokens, learned)
    count = 0
    for name, weights in _tensors(width, layers, feed_forward, _biases(tokens)):
        matrix = weights.ndim > 1
        writer.add_tensor(name, weights.astype(np.float16 if matrix else np.float32))
        count += weights.size
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return count


def _add_tokenizer(writer: gguf.GGUFWriter, tokens: list[str], merges: list[Merge]) -> None:
    plain, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([control if token in CONTROL else plain for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(tokens.index(CONTROL[0]))
    writer.add_eos_token_id(tokens.index(END))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _tensors(
    width: int, layers: int, feed_forward: int, biases: NDArray[np.float32]
) -> list[tuple[str, NDArray[np.float32]]]:
    random = np.random.default_rng(0)
    written = 0.7 / math.sqrt(layers)  # by a block: the stream stays about as large whatever their number
    held = math.sqrt(width)  # of channel 0: as large as all the others together

    def matrix(rows: int, columns: int, scale: float = 1.0) -> NDArray[np.float32]:
        return random.standard_normal((rows, columns), dtype=np.float32) * np.float32(scale / math.sqrt(columns))

    def silent_in_channel_0(weights: NDArray[np.float32]) -> NDArray[np.float32]:
        weights[0] = 0.0
        return weights

    embedding = random.standard_normal((len(biases), width), dtype=np.float32)
    embedding[:, 0] = held
    ones = np.ones(width, dtype=np.float32)
    tensors = [("token_embd.weight", embedding)]
    for layer in range(layers):
        block = {
            "attn_norm": ones,
            "attn_q": matrix(width, width, 2.0),
            "attn_k": matrix(width, width, 2.0),
            "attn_v": matrix(width, width),
            "attn_output": silent_in_channel_0(matrix(width, width, written)),
            "ffn_norm": ones,
            "ffn_gate": matrix(feed_forward, width),
            "ffn_up": matrix(feed_forward, width),
            "ffn_down": silent_in_channel_0(matrix(width, feed_forward, written)),
        }
        tensors += [(f"blk.{layer}.{name}.weight", weights) for name, weights in block.items()]
    output = matrix(len(biases), width, math.sqrt(2.0))  # logits of about unit variance
    output[(biases != 0) & (biases != np.float32(LESS))] = 0.0
    # After the norm channel 0 is about sqrt(width / 2): half of the stream's square is its own.
    output[:, 0] = biases / math.sqrt(width / 2)
    return [*tensors, ("output_norm.weight", ones), ("output.weight", output)]


def _biases(tokens: list[str]) -> NDArray[np.float32]:
    """0 where chance decides; what ends a reply or a string is as likely as its mean length asks for."""
    drawn = [token.isascii() or token.startswith("Ġ") for token in tokens]
    mass = sum(drawn) * math.exp(0.5)  # the mean of exp(a unit normal)
    biases = np.array([0.0 if free else NEVER for free in drawn], dtype=np.float32)
    for token in ("t", "Ġt", "tr", "Ġtr", "tru", "true", "Ġtrue"):
        if token in tokens:
            biases[tokens.index(token)] = LESS
    for token in CONTROL:
        biases[tokens.index(token)] = NEVER
    for token in (END, '"'):
        biases[tokens.index(token)] = math.log(mass / REPLY_TOKENS)
    return biases


def _byte_symbols() -> list[str]:
    """A printable character for each byte in turn, those of GPT-2: what is printable stands for itself."""
    own = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in own else next(others)) for byte in range(256)]


def _learn_merges(count: int) -> list[Merge]:
    """The most frequent pairs of symbols within the words of the shipped prompts, one after the other."""
    symbols = _byte_symbols()
    prompts = sorted(shipped("templates").rglob("*.j2"))
    text = "\n".join(path.read_text(encoding="utf-8") for path in prompts)
    words = Counter(tuple(symbols[byte] for byte in f" {word}".encode()) for word in text.split())
    merges: list[Merge] = []
    while len(merges) < count:
        pairs: Counter[Merge] = Counter()
        for word, times in words.items():
            for pair in pairwise(word):
                pairs[pair] += times
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        words = Counter({_merged(word, best): times for word, times in words.items()})
    return merges


def _merged(word: tuple[str, ...], pair: Merge) -> tuple[str, ...]:
    merged: list[str] = []
    for symbol in word:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return tuple(merged)


def main() -> None:
    """Writes one model and says how large it is."""
    parser = argparse.ArgumentParser(description="Write a model of random weights as a GGUF file.")
    parser.add_argument("path", type=Path)
    sizes: dict[str, Any] = {"width": 128, "layers": 2, "heads": 4, "merges": 500, "context": 8192}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = vars(parser.parse_args())
    path = options.pop("path")
    print(f"{path}: {write_model(path, **options):,} parameters")  # noqa: T201


if __name__ == "__main__":
    main()
