"""Models of people who have not read the rules: written as in their papers and repositories, sizes as they
fall.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConformerBlock(nn.Module):
    """Half-step feed-forward, attention, convolution module with GLU and depthwise convolution, half-step
    feed-forward.
    """

    def __init__(self, d_model: int = 16, n_heads: int = 4, kernel_size: int = 5) -> None:
        super().__init__()
        self.ff1 = nn.Sequential(
            nn.LayerNorm(d_model),
            nn.Linear(d_model, 4 * d_model),
            nn.SiLU(),
            nn.Dropout(0.1),
            nn.Linear(4 * d_model, d_model),
        )
        self.norm_att = nn.LayerNorm(d_model)
        self.d_k, self.h = d_model // n_heads, n_heads
        self.linear_q, self.linear_k, self.linear_v = (nn.Linear(d_model, d_model) for _ in range(3))
        self.linear_out = nn.Linear(d_model, d_model)
        self.norm_conv = nn.LayerNorm(d_model)
        self.pointwise_conv1 = nn.Conv1d(d_model, 2 * d_model, 1)
        self.depthwise_conv = nn.Conv1d(
            d_model, d_model, kernel_size, padding=(kernel_size - 1) // 2, groups=d_model
        )
        self.batch_norm = nn.BatchNorm1d(d_model)
        self.pointwise_conv2 = nn.Conv1d(d_model, d_model, 1)
        self.ff2 = nn.Sequential(
            nn.LayerNorm(d_model), nn.Linear(d_model, 4 * d_model), nn.SiLU(), nn.Linear(4 * d_model, d_model)
        )
        self.norm_out = nn.LayerNorm(d_model)

    def attention(self, x: Tensor) -> Tensor:
        n_batch = x.size(0)
        q = self.linear_q(x).view(n_batch, -1, self.h, self.d_k).transpose(1, 2)
        k = self.linear_k(x).view(n_batch, -1, self.h, self.d_k).transpose(1, 2)
        v = self.linear_v(x).view(n_batch, -1, self.h, self.d_k).transpose(1, 2)
        scores = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(self.d_k)
        x = torch.matmul(torch.softmax(scores, dim=-1), v)
        return self.linear_out(x.transpose(1, 2).contiguous().view(n_batch, -1, self.h * self.d_k))

    def convolution(self, x: Tensor) -> Tensor:
        x = F.glu(self.pointwise_conv1(x.transpose(1, 2)), dim=1)
        return self.pointwise_conv2(F.silu(self.batch_norm(self.depthwise_conv(x)))).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.5 * self.ff1(x)
        x = x + self.attention(self.norm_att(x))
        x = x + self.convolution(self.norm_conv(x))
        return self.norm_out(x + 0.5 * self.ff2(x))


class Conformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.subsample = nn.Sequential(nn.Conv1d(8, 16, 3, 2, 1), nn.ReLU())
        self.blocks, self.ctc = nn.ModuleList([ConformerBlock(), ConformerBlock()]), nn.Linear(16, 7)

    def forward(self, feats: Tensor) -> Tensor:
        x = self.subsample(feats.transpose(1, 2)).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.ctc(x).log_softmax(-1)


class MobileViTBlock(nn.Module):
    """Local convolutions, then a transformer over unfolded patches, folded back and fused."""

    def __init__(self, channels: int = 8, dim: int = 12, patch: int = 2) -> None:
        super().__init__()
        self.ph = self.pw = patch
        self.conv1, self.conv2 = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, dim, 1)
        self.norm, self.to_qkv, self.to_out = (
            nn.LayerNorm(dim),
            nn.Linear(dim, 3 * 8, bias=False),
            nn.Linear(8, dim),
        )
        self.ff = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 20), nn.SiLU(), nn.Linear(20, dim))
        self.conv3, self.conv4 = nn.Conv2d(dim, channels, 1), nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = x.clone()
        x = self.conv2(self.conv1(x))
        b, d, height, width = x.shape
        x = x.reshape(b, d, height // self.ph, self.ph, width // self.pw, self.pw)
        x = x.permute(0, 3, 5, 2, 4, 1).reshape(
            b, self.ph * self.pw, (height // self.ph) * (width // self.pw), d
        )
        q, k, v = self.to_qkv(self.norm(x)).chunk(3, dim=-1)
        q, k, v = (t.reshape(*t.shape[:3], 2, 4).transpose(2, 3) for t in (q, k, v))
        out = ((q @ k.transpose(-1, -2)) * 4**-0.5).softmax(-1) @ v
        x = x + self.to_out(out.transpose(2, 3).flatten(-2))
        x = x + self.ff(x)
        x = x.reshape(b, self.ph, self.pw, height // self.ph, width // self.pw, d)
        x = x.permute(0, 5, 3, 1, 4, 2).reshape(b, d, height, width)
        return self.conv4(torch.cat((self.conv3(x), y), 1))


class MobileViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, 8, 3, 2, 1), MobileViTBlock()
        self.pool, self.fc = nn.AvgPool2d(4), nn.Linear(8, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.block(self.stem(x))).view(-1, 8)
        return self.fc(x)


class WaveNet(nn.Module):
    """Dilated causal convolutions with gated tanh, residual and skip connections."""

    def __init__(self, residual: int = 8, skip: int = 12, layers: int = 3) -> None:
        super().__init__()
        self.causal = nn.Conv1d(1, residual, 2)
        self.filter_convs = nn.ModuleList(
            nn.Conv1d(residual, residual, 2, dilation=2**i) for i in range(layers)
        )
        self.gate_convs = nn.ModuleList(
            nn.Conv1d(residual, residual, 2, dilation=2**i) for i in range(layers)
        )
        self.residual_convs = nn.ModuleList(nn.Conv1d(residual, residual, 1) for _ in range(layers))
        self.skip_convs = nn.ModuleList(nn.Conv1d(residual, skip, 1) for _ in range(layers))
        self.end1, self.end2 = nn.Conv1d(skip, 10, 1), nn.Conv1d(10, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.causal(F.pad(x, (1, 0)))
        skip: Tensor | int = 0
        for i in range(len(self.filter_convs)):
            dilation = 2**i
            padded = F.pad(x, (dilation, 0))
            z = torch.tanh(self.filter_convs[i](padded)) * torch.sigmoid(self.gate_convs[i](padded))
            s = self.skip_convs[i](z)
            skip = s + (skip if i == 0 else skip[:, :, -s.size(2) :])
            x = self.residual_convs[i](z) + x
        return self.end2(F.relu(self.end1(F.relu(skip))))


class CapsuleNet(nn.Module):
    """Primary capsules of 4, routed by agreement to three classes of 6; the outputs are lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 12, 3, padding=1)
        self.primary = nn.Conv2d(12, 16, 3, 4, 1)
        self.W = nn.Parameter(0.1 * torch.randn(1, 16, 3, 6, 4))

    @staticmethod
    def squash(s: Tensor) -> Tensor:
        norm = (s**2).sum(-1, keepdim=True)
        return norm / (1 + norm) * s / (norm.sqrt() + 1e-8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.primary(F.relu(self.conv1(x)))
        u = self.squash(x.view(x.size(0), 4, 4, -1).permute(0, 2, 3, 1).reshape(x.size(0), 16, 4))
        u_hat = (self.W @ u[:, :, None, :, None]).squeeze(-1)
        b = torch.zeros(u_hat.shape[:3], device=x.device)
        for _ in range(2):
            c = b.softmax(2)
            v = self.squash((c[..., None] * u_hat).sum(1))
            b = b + (u_hat * v[:, None]).sum(-1)
        return v.norm(dim=-1)


class Perceiver(nn.Module):
    """A latent array reads a long input by cross attention, then thinks by itself with shared weights."""

    def __init__(self, latents: int = 5, dim: int = 16, inputs: int = 6) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, dim) * 0.02)
        self.input_proj = nn.Linear(inputs, 12)
        self.ln_q, self.ln_kv = nn.LayerNorm(dim), nn.LayerNorm(12)
        self.q, self.kv, self.o = nn.Linear(dim, 8), nn.Linear(12, 2 * 8), nn.Linear(8, dim)
        self.self_attn = nn.MultiheadAttention(dim, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 24), nn.GELU(), nn.Linear(24, dim))
        self.out = nn.Linear(dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        b = x.shape[0]
        z = self.latents.unsqueeze(0).expand(b, -1, -1)
        kv = self.ln_kv(self.input_proj(x))
        k, v = self.kv(kv).split(8, dim=-1)
        z = z + self.o(F.scaled_dot_product_attention(self.q(self.ln_q(z)), k, v))
        for _ in range(2):
            z = z + self.self_attn(z, z, z)[0]
            z = z + self.mlp(z)
        return self.out(z.mean(dim=1))


class AttentionGate(nn.Module):
    def __init__(self, g: int, x: int, inter: int) -> None:
        super().__init__()
        self.W_g = nn.Sequential(nn.Conv2d(g, inter, 1), nn.BatchNorm2d(inter))
        self.W_x = nn.Sequential(nn.Conv2d(x, inter, 1), nn.BatchNorm2d(inter))
        self.psi = nn.Sequential(nn.Conv2d(inter, 1, 1), nn.BatchNorm2d(1), nn.Sigmoid())

    def forward(self, g: Tensor, x: Tensor) -> Tensor:
        return x * self.psi(F.relu(self.W_g(g) + self.W_x(x)))


class AttentionUNet(nn.Module):
    """Skips pass a gate that looks at what comes from below."""

    def __init__(self) -> None:
        super().__init__()
        self.enc1, self.enc2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1)
        self.bottom, self.up2, self.up1 = (
            nn.Conv2d(12, 16, 3, padding=1),
            nn.ConvTranspose2d(16, 12, 2, 2),
            nn.ConvTranspose2d(12, 8, 2, 2),
        )
        self.att2, self.att1 = AttentionGate(12, 12, 6), AttentionGate(8, 8, 4)
        self.dec2, self.dec1, self.out = (
            nn.Conv2d(24, 12, 3, padding=1),
            nn.Conv2d(16, 8, 3, padding=1),
            nn.Conv2d(8, 2, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        e1 = F.relu(self.enc1(x))
        e2 = F.relu(self.enc2(F.max_pool2d(e1, 2)))
        d2 = self.up2(F.relu(self.bottom(F.max_pool2d(e2, 2))))
        d2 = F.relu(self.dec2(torch.cat((self.att2(d2, e2), d2), dim=1)))
        d1 = self.up1(d2)
        return self.out(F.relu(self.dec1(torch.cat((self.att1(d1, e1), d1), dim=1))))


class Transducer(nn.Module):
    """RNN-T: an encoder over frames, a predictor over labels, a joiner over every pair of them."""

    def __init__(self, vocabulary: int = 8) -> None:
        super().__init__()
        self.encoder = nn.LSTM(6, 10, batch_first=True, bidirectional=True)
        self.embedding, self.predictor = nn.Embedding(vocabulary, 6), nn.GRU(6, 9, batch_first=True)
        self.enc_proj, self.pred_proj = nn.Linear(20, 14), nn.Linear(9, 14)
        self.joint = nn.Linear(14, vocabulary)

    def forward(self, frames: Tensor, labels: Tensor) -> Tensor:
        enc, _ = self.encoder(frames)
        pred, _ = self.predictor(self.embedding(labels))
        return self.joint(
            torch.tanh(self.enc_proj(enc).unsqueeze(2) + self.pred_proj(pred).unsqueeze(1))
        ).log_softmax(-1)


class WindowAttention(nn.Module):
    """Swin's: relative position bias looked up in a table, a mask for shifted windows."""

    def __init__(self, dim: int, window_size: int, num_heads: int) -> None:
        super().__init__()
        self.window_size, self.num_heads = window_size, num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(
            0.2 * torch.randn((2 * window_size - 1) ** 2, num_heads)
        )
        coords = torch.stack(
            torch.meshgrid(torch.arange(window_size), torch.arange(window_size), indexing="ij")
        ).flatten(1)
        relative = (coords[:, :, None] - coords[:, None, :]).permute(1, 2, 0) + window_size - 1
        self.register_buffer(
            "relative_position_index", relative[:, :, 0] * (2 * window_size - 1) + relative[:, :, 1]
        )
        self.qkv, self.proj = nn.Linear(dim, dim * 3), nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        B_, N, C = x.shape
        qkv = self.qkv(x).reshape(B_, N, 3, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        attn = (q * self.scale) @ k.transpose(-2, -1)
        bias = (
            self.relative_position_bias_table[self.relative_position_index.view(-1)]
            .view(N, N, -1)
            .permute(2, 0, 1)
            .contiguous()
        )
        attn = attn + bias.unsqueeze(0)
        if mask is not None:
            nW = mask.shape[0]
            attn = attn.view(B_ // nW, nW, self.num_heads, N, N) + mask.unsqueeze(1).unsqueeze(0)
            attn = attn.view(-1, self.num_heads, N, N)
        return self.proj((attn.softmax(-1) @ v).transpose(1, 2).reshape(B_, N, C))


class SwinBlock(nn.Module):
    def __init__(
        self, dim: int = 12, resolution: int = 4, heads: int = 3, window: int = 2, shift: int = 0
    ) -> None:
        super().__init__()
        self.resolution, self.window, self.shift = resolution, window, shift
        self.norm1, self.attn, self.norm2 = (
            nn.LayerNorm(dim),
            WindowAttention(dim, window, heads),
            nn.LayerNorm(dim),
        )
        self.mlp = nn.Sequential(nn.Linear(dim, 24), nn.GELU(), nn.Linear(24, dim))
        self.register_buffer("mask", 100.0 * -torch.eye(4).repeat(4, 1, 1) if shift else None)

    def forward(self, x: Tensor) -> Tensor:
        H = W = self.resolution
        B, _, C = x.shape
        w, shortcut = self.window, x
        x = self.norm1(x).view(B, H, W, C)
        if self.shift > 0:
            x = torch.roll(x, shifts=(-self.shift, -self.shift), dims=(1, 2))
        windows = x.view(B, H // w, w, W // w, w, C).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, w * w, C)
        windows = self.attn(windows, self.mask).view(-1, w, w, C)
        x = windows.view(B, H // w, W // w, w, w, -1).permute(0, 1, 3, 2, 4, 5).contiguous().view(B, H, W, -1)
        if self.shift > 0:
            x = torch.roll(x, shifts=(self.shift, self.shift), dims=(1, 2))
        x = shortcut + x.view(B, H * W, C)
        return x + self.mlp(self.norm2(x))


class Swin(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 12, 2, 2)
        self.blocks, self.norm, self.head = (
            nn.Sequential(SwinBlock(), SwinBlock(shift=1)),
            nn.LayerNorm(12),
            nn.Linear(12, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(x)).mean(1))
