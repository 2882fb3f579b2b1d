"""A masked autoencoder (He et al. 2022): sees some patches of a picture, says all of them.

Modules carry the names of the published checkpoints, so that those can be loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional

_NORM_EPS: Final = 1e-6


@dataclass(frozen=True)
class MaeShape:
    """Sizes of a masked autoencoder.

    Attributes:
        rows: of patches.
        columns: of patches.
        patch: side of a patch in pixels.
        channels: of pictures.
        width: of the encoder.
        depth: blocks of the encoder.
        heads: of attention in the encoder.
        decoder_width: of the decoder.
        decoder_depth: blocks of the decoder.
        decoder_heads: of attention in the decoder.
    """

    rows: int
    columns: int
    patch: int
    channels: int
    width: int = 192
    depth: int = 4
    heads: int = 6
    decoder_width: int = 96
    decoder_depth: int = 2
    decoder_heads: int = 6

    def __post_init__(self) -> None:
        if min(self.__dict__.values()) < 1:
            raise ValueError(f"masked autoencoder: {self}: expected 1 or more of everything")
        for width, heads in ((self.width, self.heads), (self.decoder_width, self.decoder_heads)):
            if width % heads or width % 4:
                raise ValueError(
                    f"masked autoencoder: width {width} for {heads} heads; it must be a multiple "
                    "of both 4 and the heads"
                )

    @property
    def tokens(self) -> int:
        """Patches of a picture."""
        return self.rows * self.columns

    @property
    def values(self) -> int:
        """Values of a patch."""
        return self.patch * self.patch * self.channels


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor, seen: torch.Tensor | None) -> torch.Tensor:
        count, length, width = tokens.shape
        parts = self.qkv(tokens).reshape(count, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        joined: torch.Tensor = self.proj(mixed.transpose(1, 2).reshape(count, length, width))
        return joined


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return mixed


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, _NORM_EPS)
        self.attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, _NORM_EPS)
        self.mlp = _Mlp(width)

    def forward(self, tokens: torch.Tensor, seen: torch.Tensor | None = None) -> torch.Tensor:
        tokens = tokens + self.attn(self.norm1(tokens), seen)
        result: torch.Tensor = tokens + self.mlp(self.norm2(tokens))
        return result


class _PatchEmbedding(nn.Module):
    def __init__(self, shape: MaeShape) -> None:
        super().__init__()
        self.proj = nn.Conv2d(shape.channels, shape.width, shape.patch, shape.patch)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.proj(pictures).flatten(2).transpose(1, 2)
        return tokens


class MaskedAutoencoder(nn.Module):
    """Encoder of visible patches, decoder of all.

    Args:
        shape: sizes.
    """

    pos_embed: torch.Tensor
    decoder_pos_embed: torch.Tensor

    def __init__(self, shape: MaeShape) -> None:
        super().__init__()
        self.shape = shape
        self.patch_embed = _PatchEmbedding(shape)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.blocks = nn.ModuleList(_Block(shape.width, shape.heads) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width, _NORM_EPS)
        self.decoder_embed = nn.Linear(shape.width, shape.decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, shape.decoder_width))
        self.decoder_blocks = nn.ModuleList(
            _Block(shape.decoder_width, shape.decoder_heads) for _ in range(shape.decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(shape.decoder_width, _NORM_EPS)
        self.decoder_pred = nn.Linear(shape.decoder_width, shape.values)
        for name, width in (("pos_embed", shape.width), ("decoder_pos_embed", shape.decoder_width)):
            self.register_buffer(name, places(shape.rows, shape.columns, width))
        self._begin()

    def forward(self, pictures: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Return all patches as the network imagines them.

        Args:
            pictures: normalised, shape (n, channels, rows * patch, columns * patch); what is not
                visible may hold anything finite.
            visible: boolean, shape (n, rows * columns), at least one of each picture.

        Returns:
            Shape (n, rows * columns, patch * patch * channels), values in the order (row, column,
            channel).
        """
        tokens = self.patch_embed(pictures) + self.pos_embed[:, 1:]
        # Visible patches to the front, in their order; pictures with fewer are padded.
        order = torch.argsort((~visible).to(torch.uint8), dim=1, stable=True)
        numbers = visible.sum(1)
        most = int(numbers.max())
        order = order[:, :most]
        front = tokens.gather(1, order.unsqueeze(2).expand(-1, -1, tokens.shape[2]))
        own = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        latent = torch.cat([own, front], 1)
        present = torch.arange(most, device=visible.device) < numbers.unsqueeze(1)
        seen: torch.Tensor | None = None
        if not bool(present.all()):
            with_own = torch.cat([torch.ones_like(present[:, :1]), present], 1)
            seen = with_own[:, None, None, :]
        for block in self.blocks:
            latent = block(latent, seen)
        return self._decode(self.decoder_embed(self.norm(latent)), order, present)

    def _decode(
        self, latent: torch.Tensor, order: torch.Tensor, present: torch.Tensor
    ) -> torch.Tensor:
        count, _, width = latent.shape
        # One place more than there are: where padding goes, and is cut off.
        whole = self.mask_token.expand(count, self.shape.tokens + 1, width).to(latent.dtype)
        target = torch.where(present, order, self.shape.tokens)
        whole = whole.scatter(1, target.unsqueeze(2).expand(-1, -1, width), latent[:, 1:])
        tokens = torch.cat([latent[:, :1], whole[:, :-1]], 1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            tokens = block(tokens)
        patches: torch.Tensor = self.decoder_pred(self.decoder_norm(tokens))[:, 1:]
        return patches

    def _begin(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        embedding = self.patch_embed.proj
        nn.init.xavier_uniform_(embedding.weight.view(len(embedding.weight), -1))
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)


def places(rows: int, columns: int, width: int) -> torch.Tensor:
    """Return what is added to the token of each patch to say where it is.

    Sines and cosines of row and column, a quarter of the width each; zeros for the token that
    stands for no patch.

    Args:
        rows: of patches.
        columns: of patches.
        width: of tokens, a multiple of 4.

    Returns:
        float32, shape (1, 1 + rows * columns, width).
    """
    rate = 1 / 10000 ** (np.arange(width // 4) / (width // 4))
    y, x = (axis.reshape(-1, 1) * rate for axis in np.mgrid[:rows, :columns].astype("f8"))
    waves = np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1)
    return torch.from_numpy(np.concatenate([np.zeros((1, width)), waves]).astype("f4"))[None]


def cut_patches(pictures: torch.Tensor, patch: int) -> torch.Tensor:
    """Return the patches of pictures (n, channels, height, width), as `forward` orders values."""
    count, channels, height, width = pictures.shape
    cells = pictures.reshape(count, channels, height // patch, patch, width // patch, patch)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(count, -1, patch * patch * channels)


def join_patches(patches: torch.Tensor, rows: int, columns: int, patch: int) -> torch.Tensor:
    """Undo `cut_patches`."""
    cells = patches.reshape(len(patches), rows, columns, patch, patch, -1)
    joined = cells.permute(0, 5, 1, 3, 2, 4)
    return joined.reshape(len(patches), -1, rows * patch, columns * patch)
