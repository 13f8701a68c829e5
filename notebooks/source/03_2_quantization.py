# %% [markdown] lang="en"
# # 3.2 · Quantization
#
# The document defines quantization in one formula, $w_{ij} = \mathrm{round}(w_{ij})$. In this chapter you run it on a trained
# network, see it erase the network, add the one letter that is missing, and then learn what that letter may depend on: the
# tensor, the row, the data, the loss. At the end you know how far your quantizer is from the best that can exist.

# %% [markdown] lang="zh"
# # 3.2 · 量化
#
# 原文用一个公式定义量化：$w_{ij} = \mathrm{round}(w_{ij})$。这一章先把它用在一个训练好的网络上，看它怎样把网络抹平；
# 再补上公式里缺的那个字母，并弄清这个字母可以取决于什么：张量、行、数据，乃至损失。最后你会知道，自己的量化器离理论上的极限还有多远。

# %% [markdown] lang="en"
# **What you will be able to do**
#
# - derive scale and zero point, and write int8 quantization in four lines;
# - predict the rounding error ($s^2/12$, 6.02 dB a bit) before you measure it, and say where the prediction fails;
# - choose granularity, clipping range and calibration by measurement, with the scales counted;
# - train through rounding with the straight-through estimator and with a learned step size;
# - pack codes into real bytes, and compare any quantizer with the rate-distortion bound.
#
# **Time** 90 minutes · **Memory** below 1 GB · **Needs** chapters `01_background` and `02_1_core_concepts`; MNIST and the trained
# `lenet_300_100`, which the first call fetches and trains (about a minute, once).

# %% [markdown] lang="zh"
# **学完这一章，你能够**
#
# - 推导缩放因子和零点，用四行代码写出 int8 量化；
# - 在测量之前先算出舍入误差（$s^2/12$，每个比特 6.02 dB），并说清这个预测在哪里失效；
# - 通过测量来选择粒度、截断范围和校准方法，并把缩放因子的开销算进去；
# - 用直通估计和可学习的步长，让网络带着取整继续训练；
# - 把编码真正打包成字节，并拿任何一种量化器与率失真下界相比。
#
# **时间** 90 分钟 · **内存** 不到 1 GB · **需要** 第 `01_background` 章和第 `02_1_core_concepts` 章；MNIST 数据与训练好的 `lenet_300_100`，
# 首次调用时会自动下载并训练（约一分钟，仅此一次）。

# %%
import copy
import inspect
import io
import math
import tempfile
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn

from course_lib import plots, quantization
from course_lib.coding import entropy_bits
from course_lib.data import mnist
from course_lib.measure import accuracy_interval, dense_bytes, n_errors, predict, verdict, verdict_on_test_set
from course_lib.models import lenet_300_100
from course_lib.optimizers import Adam
from course_lib.pretrained import trained
from course_lib.training import train, warmup_cosine

plots.use_course_style()
torch.set_num_threads(1)

# %%
N_CALIBRATION = 2000  # training images whose activations the observers see
N_FINE_TUNING = 7680  # training images for quantization-aware training: 60 updates of 128
N_STEPS = N_FINE_TUNING // 128
SEEDS = (0, 1, 2)
GROUP_SIZE = 32

# %% [markdown] lang="en"
# ## 1 · The document's formula, literally
#
# Two steps, says the document: for each weight choose the integer with the smallest distance to it, then replace the weight by
# that integer.
#
# $$ w_{ij} \leftarrow \mathrm{round}(w_{ij}) $$
#
# First the network whose weights these are: LeNet-300-100, trained on all 60,000 training digits.

# %% [markdown] lang="zh"
# ## 1 · 照着原文的公式做一遍
#
# 原文说分两步：对每个权重，找出离它最近的整数；再用这个整数替换它。
#
# $$ w_{ij} \leftarrow \mathrm{round}(w_{ij}) $$
#
# 先取出要处理的网络：在全部 60,000 张训练图像上训练好的 LeNet-300-100。

# %%
digits = mnist()
dense = trained("lenet_300_100")
linear = {name: layer for name, layer in dense.named_modules() if isinstance(layer, nn.Linear)}
dense_logits = predict(dense, digits.test_images)
dense_errors = n_errors(dense, digits.test_images, digits.test_labels)

low, high = accuracy_interval(10_000 - dense_errors, 10_000)
print(f"dense network: {dense_errors} of 10,000 wrong; 95 % interval of the error rate {1 - high:.2%} to {1 - low:.2%}")
for name, layer in linear.items():
    print(f"layer {name}: {tuple(layer.weight.shape)}, largest |w| = {layer.weight.abs().max():.3f}")

# %% [markdown] lang="en"
# The rule as loops, on twelve real weights: for each, try the integers and keep the nearest. The library's line must agree.

# %% [markdown] lang="zh"
# 先用循环在十二个真实权重上照做：对每个权重逐一比较各个整数，留下最近的那个。库里的一行代码必须得出同样的结果。

# %%
W = dense[0].weight.detach()
W_small = W[:3, 400:404]  # (3, 4)

rounded = torch.empty(3, 4)
for i in range(3):
    for j in range(4):
        rounded[i, j] = min(range(-3, 4), key=lambda k: abs(k - float(W_small[i, j])))

print(inspect.getsource(quantization.round_to_integer).split('"""')[2])
assert rounded.equal(quantization.round_to_integer(W_small))
W_small, rounded

# %% [markdown] lang="en"
# All zero. (A weight of exactly 0.5 has two nearest integers. torch, like IEEE 754, takes the even one: 0.5 becomes 0, 1.5
# becomes 2. The document does not say.)
#
# **Predict before you run on:** of the 266,200 weights of the network, how many survive? And what does a network without weights
# answer?
#
# <details><summary>Hint</summary>The largest weights were printed above. A layer without weights still has a bias.</details>

# %% [markdown] lang="zh"
# 全部变成了零。（恰好等于 0.5 的权重有两个最近的整数。torch 与 IEEE 754 一样取其中的偶数：0.5 变成 0，1.5 变成 2。原文没有说明这一点。）
#
# **先猜再运行：** 整个网络有 266,200 个权重，能留下几个？没有了权重的网络，又会给出怎样的答案？
#
# <details><summary>提示</summary>上面已经打印出每层最大的权重。一层即使没有权重，也还有偏置。</details>


# %%
def with_weights(change):
    """A copy of the dense network in which `change` was applied to the weight of every linear layer."""
    copied = copy.deepcopy(dense)
    with torch.no_grad():
        for layer in copied:
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(change(layer.weight))
    return copied


erased = with_weights(quantization.round_to_integer)
survivors = sum(int((erased.get_submodule(name).weight != 0).sum()) for name in linear)
answers = predict(erased, digits.test_images).argmax(1)
erased_errors = n_errors(erased, digits.test_images, digits.test_labels)
print(f"{survivors} of 266,200 weights survive; {erased_errors} of 10,000 wrong; answers: {answers.unique().tolist()}")
assert survivors < 100 and erased_errors > 8000  # chance is 9,000; classes differ by a hundred or two

# %% [markdown] lang="en"
# A handful of weights is left, and the network answers nearly the same digit to every image: its biases speak, the image is not
# heard. Accuracy has fallen to chance. The picture shows why: the grid of the rule is the integers, and the weights live between two
# of its points. Everything inside the dotted lines becomes 0.

# %% [markdown] lang="zh"
# 只剩下寥寥几个权重，网络对几乎所有图像都给出同一个数字：说话的只有偏置，图像的内容根本传不过去，准确率跌到了随机猜测的水平。
# 下图说明了原因：这条规则的网格就是整数，而权重全都挤在两个格点之间，点线以内的一律变成 0。

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2))
plots.weight_histogram(W, thresholds={"becomes 0 inside": 0.5}, ax=axes[0])
plots.weight_histogram(W / 0.01, thresholds={"becomes 0 inside": 0.5}, ax=axes[1])
axes[0].set_title("weights, and the grid of integers")
_ = axes[1].set(title="the same weights in steps of 0.01", xlabel="weight / 0.01")
# %% [markdown] lang="en"
# The right panel holds the cure: measure the weights in another unit. Divide by a step $s$, round, and multiply back:
#
# $$ \hat w = s \cdot \mathrm{round}(w / s) $$
#
# With $s = 1$ this is the document's rule. Let $s$ shrink:

# %% [markdown] lang="zh"
# 右图就是解药：换一个单位来度量权重。先除以步长 $s$，取整，再乘回去：
#
# $$ \hat w = s \cdot \mathrm{round}(w / s) $$
#
# 取 $s = 1$ 就是原文的规则。现在让 $s$ 逐渐变小：

# %%
step_errors = {}
for s in (1.0, 0.5, 0.2, 0.1, 0.05, 0.01):
    model = with_weights(lambda V, s=s: s * quantization.round_to_integer(V / s))
    step_errors[s] = n_errors(model, digits.test_images, digits.test_labels)
    n_values = (W / s).round().unique().numel()
    print(f"s = {s:<5} {n_values:3d} different integers in layer 0   {step_errors[s]:5d} wrong")
assert step_errors[1.0] == erased_errors and step_errors[0.01] < 1.2 * dense_errors

# %% [markdown] lang="en"
# One number brings the network back. A smaller step costs more integers, and integers cost bits: with $b$ bits there are $2^b$ of
# them. So the question is no longer *whether* to round but *how to choose s*, and everything below is an answer to it.

# %% [markdown] lang="zh"
# 仅仅多了一个数，网络就回来了。步长越小，用到的整数越多；而整数要占比特：$b$ 个比特只能表示 $2^b$ 个整数。所以问题不再是*要不要*取整，
# 而是*怎样选择 s*。下面的全部内容，都是对这个问题的回答。

# %% [markdown] lang="en"
# ## 2 · Scale and zero point
#
# We want the $2^b$ codes $q_{\min}, \dots, q_{\max}$ to cover a range $[low, high]$, with a code $q$ standing for $\hat w = s\,(q - z)$.
# Two conditions, two unknowns:
#
# $$ s\,(q_{\min} - z) = low, \qquad s\,(q_{\max} - z) = high $$
#
# Subtract the first from the second, and put the result back:
#
# $$ s = \frac{high - low}{q_{\max} - q_{\min}}, \qquad z = q_{\min} - \frac{low}{s} $$
#
# One more wish: the real number 0 must have a code of its own. Many of a ReLU's outputs, all padding and all pruned weights are
# exactly 0. The code of 0 is $q = z$, so $z$ must be an integer: we round it, which moves the grid by at most $s/2$.
# When the range is symmetric about 0 we set $z = 0$ and $s = \max|w| / q_{\max}$, and need no zero point at all.

# %% [markdown] lang="zh"
# ## 2 · 缩放因子与零点
#
# 我们希望 $2^b$ 个编码 $q_{\min}, \dots, q_{\max}$ 恰好覆盖区间 $[low, high]$，其中编码 $q$ 代表 $\hat w = s\,(q - z)$。
# 两个条件，两个未知数：
#
# $$ s\,(q_{\min} - z) = low, \qquad s\,(q_{\max} - z) = high $$
#
# 两式相减，再代回去：
#
# $$ s = \frac{high - low}{q_{\max} - q_{\min}}, \qquad z = q_{\min} - \frac{low}{s} $$
#
# 还有一个要求：实数 0 必须有自己的编码。ReLU 的许多输出、全部的填充、剪掉的权重，都恰好是 0。0 的编码是 $q = z$，所以 $z$ 必须是整数：
# 对它取整，网格因此最多平移 $s/2$。如果区间关于 0 对称，就取 $z = 0$、$s = \max|w| / q_{\max}$，完全不需要零点。

# %% [markdown] lang="en"
# Symmetric int8 in four lines, on the first layer; the library must agree code by code.

# %% [markdown] lang="zh"
# 对称的 int8 量化只要四行。在第一层上运行，并要求与库的结果逐个编码相同。

# %%
s = W.abs().max() / 127
q = (W / s).round().clamp(-128, 127).to(torch.int8)
W_hat = s * q
error = (W_hat - W).abs().max()

s_lib, z_lib = quantization.choose_qparams(W.min(), W.max(), n_bits=8, symmetric=True)
assert q.equal(quantization.quantize(W, s_lib, z_lib)) and W_hat.equal(quantization.dequantize(q, s_lib, z_lib))
assert error <= s / 2 * (1 + 1e-4)  # half a step, and room for the rounding of float32 itself
print(f"s = {s:.6f}, codes {q.min()} to {q.max()}, largest error {error:.6f} = {error / s:.4f} steps")

# %% [markdown] lang="en"
# The affine form follows the derivation line by line. Read it, and notice three traps that it avoids: the range is stretched to hold
# 0 *before* anything else; a range that is only the point 0 gets a scale of 1, not 0; $z$ is computed in double precision.

# %% [markdown] lang="zh"
# 仿射形式逐行对应上面的推导。读一读源码，注意它避开的三个陷阱：先把区间扩展到包含 0，再做其他事；若区间只有 0 这一个点，缩放因子取 1 而不是 0；
# 计算 $z$ 用的是双精度。

# %%
print(inspect.getsource(quantization.choose_qparams).split('"""')[2])
print(inspect.getsource(quantization.quantize).split('"""')[2])
print("codes of 3 bits:", quantization.integer_range(3), " unsigned:", quantization.integer_range(3, signed=False))

# %% [markdown] lang="en"
# What does the zero point buy? Take values in $[-0.3, 1]$, as behind a leaky activation, and 3 bits. The symmetric grid must reach
# -1 as well and spends three of its eight codes where there are no values; the affine grid uses all eight. Its steps are finer
# by the ratio printed below. Both pass through the origin exactly.

# %% [markdown] lang="zh"
# 零点换来了什么？设数值落在 $[-0.3, 1]$（例如经过带泄漏的激活函数之后），用 3 个比特。对称网格在另一侧也得伸到 -1，八个编码里有三个落在没有数值的地方；
# 仿射网格则八个全用上了。下面打印的比值说明它的步长细了多少。两种网格都恰好经过原点。

# %%
x = torch.linspace(-0.3, 1, 1301)
fig, axes = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True)
steps = {}
for ax, symmetric in zip(axes, (True, False)):
    s, z = quantization.choose_qparams(-0.3, 1.0, n_bits=3, symmetric=symmetric)
    q = quantization.quantize(x, s, z, n_bits=3)
    ax.plot(x, x, color="0.6", label="x")
    ax.plot(x, quantization.dequantize(q, s, z), label=f"quantized, {q.unique().numel()} of 8 codes used")
    ax.set(xlabel="x", title=f"{'symmetric' if symmetric else 'affine'}: s = {float(s):.3f}, z = {int(z)}")
    ax.legend()
    steps[symmetric] = float(s)
print(f"step ratio symmetric / affine: {steps[True] / steps[False]:.2f}")
assert quantization.quantize(torch.zeros(1), s, z, 3) == z and steps[True] > 1.5 * steps[False]

# %% [markdown] lang="en"
# An outside judge: torch's own quantizer multiplies by $1/s$ where we divide by $s$. The codes can differ only where $w/s$ lies
# on a tie up to the last bit of float32; how often is that?

# %% [markdown] lang="zh"
# 再请一位外部裁判：torch 自带的量化器乘以 $1/s$，而我们除以 $s$。只有当 $w/s$ 在 float32 的精度内恰好落在两个整数正中时，编码才可能不同。
# 这种情况有多少？

# %%
s, z = quantization.choose_qparams(W.min(), W.max(), 8, symmetric=False)
ours = quantization.dequantize(quantization.quantize(W, s, z), s, z)
theirs = torch.fake_quantize_per_tensor_affine(W, float(s), int(z), -128, 127)
n_different = int(((ours - theirs).abs() > s / 2).sum())
print(f"{n_different} of {W.numel():,} codes differ from torch's")
assert n_different <= 20

# %% [markdown] lang="en"
# ## 3 · The mistake: a range without 0
#
# Suppose all values lie in $[3, 5]$: say, the scale parameters of a normalization layer. The formula for $z$ gives a number far outside
# the codes. Stored in 8 bits it must be clipped. **What happens to the values?**
#
# <details><summary>Hint</summary>With z clipped to -128, which real numbers do the codes stand for?</details>

# %% [markdown] lang="zh"
# ## 3 · 一个错误：不包含 0 的区间
#
# 设所有数值都在 $[3, 5]$ 之内，例如某个归一化层的缩放参数。这时按公式算出的 $z$ 远在编码范围之外，要存进 8 比特就只能截断。**这些数值会变成什么？**
#
# <details><summary>提示</summary>若 z 被截断为 -128，各个编码代表的是哪些实数？</details>

# %%
V = torch.linspace(3, 5, 201)
s_naive = (V.max() - V.min()) / 255
z_naive = int((-128 - V.min() / s_naive).round())  # what the formula says
z_stored = max(-128, min(127, z_naive))  # what fits into int8
V_naive = quantization.dequantize(quantization.quantize(V, s_naive, z_stored), s_naive, z_stored)

s, z = quantization.choose_qparams(V.min(), V.max(), 8, symmetric=False)
V_hat = quantization.dequantize(quantization.quantize(V, s, z), s, z)
for name, V_back, step in (("naive", V_naive, s_naive), ("stretched to hold 0", V_hat, s)):
    largest = float((V_back - V).abs().max() / step)
    print(f"{name:20} values {V_back.min():.2f} to {V_back.max():.2f}, largest error {largest:6.1f} steps")
print(f"zero point by the formula: {z_naive}, stored: {z_stored}")
assert V_naive.unique().numel() == 1 and (V_hat - V).abs().max() <= s / 2 * 1.001

# %% [markdown] lang="en"
# The naive grid spans $[0, 2]$, so every value saturates at its end: 201 different numbers became one, and no error message was shown.
# Stretching the range to $[0, 5]$ costs a step 2.5 times as wide and saves everything else. Whoever needs the fine step must
# subtract an offset first and keep it; that is no longer affine quantization with an 8-bit zero point.

# %% [markdown] lang="zh"
# 未经扩展的网格只覆盖 $[0, 2]$，于是所有数值都饱和在它的右端：201 个不同的数变成了同一个，而且没有任何报错。把区间扩展到 $[0, 5]$，
# 代价是步长变为 2.5 倍，其余的全都保住了。如果确实需要那么细的步长，就得先减去一个偏移量，并把偏移量存下来；但那已经不是带 8 比特零点的仿射量化了。

# %% [markdown] lang="en"
# ## 4 · How large is the error? Predict first
#
# Rounding leaves $e = \hat w - w$ in $[-s/2, s/2]$. If the weights do not favour any place within a step, $e$ is uniform there:
#
# $$ \mathbb{E}\,e^2 = \frac1s \int_{-s/2}^{s/2} e^2\, de = \frac{s^2}{12} $$
#
# One more bit halves $s$, so the error falls to a quarter and the signal-to-noise ratio grows by $20 \log_{10} 2 = 6.02$ dB.
# With the largest weight at the end of the range, this becomes a formula without $s$:
#
# $$ \mathrm{SNR}(b) = 20 \log_{10}(2)\, b + 10 \log_{10} 3 - 20 \log_{10} \frac{\mathrm{peak}}{\mathrm{rms}} $$

# %% [markdown] lang="zh"
# ## 4 · 误差有多大？先预测
#
# 取整留下的误差 $e = \hat w - w$ 落在 $[-s/2, s/2]$ 之内。如果权重在一个步长内部不偏向任何位置，$e$ 就在其中均匀分布：
#
# $$ \mathbb{E}\,e^2 = \frac1s \int_{-s/2}^{s/2} e^2\, de = \frac{s^2}{12} $$
#
# 多一个比特，$s$ 减半，误差降到四分之一，信噪比提高 $20 \log_{10} 2 = 6.02$ dB。若量化范围的端点正好是最大的权重，就得到一个不含 $s$ 的公式：
#
# $$ \mathrm{SNR}(b) = 20 \log_{10}(2)\, b + 10 \log_{10} 3 - 20 \log_{10} \frac{\mathrm{peak}}{\mathrm{rms}} $$

# %%
peak = quantization.peak_to_rms(W)
print(f"layer 0: peak / rms = {peak:.2f}, which costs {20 * math.log10(peak):.1f} dB\n")
print("bits  s^2/12 predicted  measured     ratio   SNR predicted  measured")
ratio, snr = {}, {}
for b in range(2, 9):
    s, z = quantization.weight_qparams(W, n_bits=b)
    W_hat = quantization.dequantize(quantization.quantize(W, s, z, b), s, z)
    predicted, measured = float(quantization.uniform_noise_variance(s)), float((W_hat - W).square().mean())
    ratio[b], snr[b] = measured / predicted, quantization.signal_to_noise_db(W, W_hat)
    print(
        f"{b:3d}   {predicted:.3e}         {measured:.3e}  {ratio[b]:6.3f}   "
        f"{quantization.predicted_snr_db(b, peak):6.1f} dB     {snr[b]:6.1f} dB"
    )
assert all(abs(ratio[b] - 1) < 0.05 for b in (5, 6, 7, 8)) and ratio[2] < 0.7
assert abs((snr[8] - snr[6]) / 2 - 6.02) < 0.3

# %% [markdown] lang="en"
# From 5 bits up, $s^2/12$ is right to a few percent and each bit brings its 6 dB. At 2 bits it fails: nearly all weights lie
# within half a step of 0, so they all become 0, and the error is simply the weight itself. (The prediction of the SNR is also a
# little too high at few bits: it counts $2^b$ steps, while symmetric codes use $2^b - 2$.)
#
# Notice the last term of the formula. This layer pays 16 dB, almost three bits, because its largest weight is far above the rms.
# Two ways out: let the largest weight count for fewer companions (section 5), or let it saturate (section 6).

# %% [markdown] lang="zh"
# 从 5 比特起，$s^2/12$ 的误差只有百分之几，每个比特也确实换来 6 dB。到 2 比特它就失效了：几乎所有权重都落在 0 两侧半个步长以内，
# 一律变成 0，误差就等于权重本身。（比特数少时，信噪比的预测也略微偏高：它按 $2^b$ 个步长计算，而对称编码只用了 $2^b - 2$ 个。）
#
# 注意公式的最后一项。这一层最大的权重远高于均方根，为此付出了 16 dB，差不多三个比特。出路有两条：让最大的权重只影响较少的同伴（第 5 节），
# 或者干脆让它饱和（第 6 节）。

# %%
bits = list(range(2, 9))
ax = plots.curves(
    {
        "predicted": (bits, [quantization.predicted_snr_db(b, peak) for b in bits]),
        "measured, layer 0": (bits, [snr[b] for b in bits]),
    },
    xlabel="bits",
    ylabel="signal-to-noise ratio (dB)",
    title="6.02 dB a bit, once there are enough of them",
)

# %% [markdown] lang="en"
# ## 5 · Granularity: how many weights share a scale?
#
# A scale for the whole tensor, for each row (one output unit), or for each group of 32 weights in a row. Finer is better and costs
# more: with 16 bits a scale,
#
# $$ \text{bits} = n\,b + n_s\,(b_s + b\,[\text{affine}]) $$
#
# A row may have its own scale for free at run time, because it can be taken out of the sum:
# $y_i = \sum_j s_i q_{ij} x_j = s_i \sum_j q_{ij} x_j$. A column could not.
# For groups, each row of $n$ weights is cut into $\lceil n/n_g \rceil$ pieces; zeros fill the last.
#
# **Predict:** what does a scale for every 32 weights cost, in bits a weight? At 3 bits, is it a better buy than a fourth bit?

# %% [markdown] lang="zh"
# ## 5 · 粒度：多少个权重共用一个缩放因子？
#
# 可以整个张量一个，每行（一个输出单元）一个，或者行内每 32 个权重一组、每组一个。越细越准，也越贵。每个缩放因子按 16 比特计：
#
# $$ \text{bits} = n\,b + n_s\,(b_s + b\,[\text{affine}]) $$
#
# 每行一个缩放因子在推理时不增加计算，因为它可以提到求和号外面：
# $y_i = \sum_j s_i q_{ij} x_j = s_i \sum_j q_{ij} x_j$。换成每列一个就不行了。
# 分组时，把每行的 $n$ 个权重切成 $\lceil n/n_g \rceil$ 段，最后一段用零补齐。
#
# **先猜：** 每 32 个权重一个缩放因子，平摊到每个权重是多少比特？在 3 比特时，它与“再加一个比特”相比，哪个更划算？

# %%
print(inspect.getsource(quantization.to_groups).split('"""')[2])
groups = quantization.to_groups(W, GROUP_SIZE)
assert quantization.from_groups(groups, tuple(W.shape)).equal(W)
for grain in ("tensor", "row", "group"):
    s, _ = quantization.weight_qparams(W, 3, granularity=grain, group_size=GROUP_SIZE)
    cost = quantization.quantized_bits(tuple(W.shape), 3, granularity=grain, group_size=GROUP_SIZE)
    print(f"{grain:6}  scales of shape {tuple(s.shape)!s:14}  {cost / W.numel():.3f} bits a weight")

# %% [markdown] lang="en"
# Now the whole network, all three layers, biases left in float32. Each entry is measured on the 10,000 test images; a star marks
# what McNemar's test tells apart from the dense network at 95 % (single runs of one network; no selection is made from this table).

# %% [markdown] lang="zh"
# 现在换成整个网络：三层全部量化，偏置保留为 float32。每一格都在 10,000 张测试图像上测得；带星号的，是 McNemar 检验在 95 % 水平上能与稠密网络区分开的
# （每格都是同一个网络的单次结果；我们不根据这张表做任何选择）。


# %%
def report(model):
    """Test errors, and whether McNemar's test sees a difference from the dense network."""
    logits = predict(model, digits.test_images)
    n_wrong = int((logits.argmax(1) != digits.test_labels).sum())
    return n_wrong, verdict_on_test_set(logits, dense_logits, digits.test_labels)


def weight_bytes(b, grain):
    return (
        sum(
            quantization.quantized_bits(tuple(layer.weight.shape), b, granularity=grain, group_size=GROUP_SIZE)
            for layer in linear.values()
        )
        / 8
    )


# %%
dense_weight_bytes = dense_bytes(dense) - sum(4 * layer.bias.numel() for layer in linear.values())
print(f"dense: {dense_errors} wrong, {dense_weight_bytes:,} bytes of weights\n")
print("bits   tensor              row                 group of 32")
table = {}
for b in (8, 5, 4, 3, 2):
    cells = []
    for grain in ("tensor", "row", "group"):
        model = with_weights(partial(quantization.fake_quantize_weights, n_bits=b, granularity=grain, group_size=GROUP_SIZE))
        table[b, grain] = report(model)
        star = " " if table[b, grain][1] == "no difference shown" else "*"
        cells.append(f"{table[b, grain][0]:5d}{star} {weight_bytes(b, grain):9,.0f} B")
    print(f"{b:3d}   " + "   ".join(cells))
assert table[8, "tensor"][0] < 1.1 * dense_errors
assert table[2, "tensor"][0] > table[2, "row"][0] > table[2, "group"][0]
assert table[3, "group"][0] < table[3, "tensor"][0] and table[3, "group"][0] < 1.3 * table[4, "tensor"][0]

# %% [markdown] lang="en"
# At 8 bits granularity does not matter: take the tensor, a quarter of the bytes, no loss that 10,000 images can show. At 3 and 2 bits
# it decides. A group of 32 costs half a bit a weight (a little more here, because 784 and 300 are not multiples of 32): three bits in
# groups do about as well as four bits with one scale, in fewer bytes. A scale a row costs next to nothing and is the first thing to
# buy. The figure puts each setting at its true price.

# %% [markdown] lang="zh"
# 8 比特时粒度无关紧要：整个张量一个缩放因子就够了，字节数降到四分之一，10,000 张图像看不出损失。到 3 比特和 2 比特，粒度就成了关键。
# 每 32 个一组多花半个比特（这里略多一点，因为 784 和 300 不是 32 的倍数）：
# 3 比特加分组，与 4 比特加单个缩放因子效果相当，字节却更少。每行一个缩放因子几乎没有代价，应当最先采用。下图按真实的开销画出每种设置。

# %%
points = {}
for grain in ("tensor", "row", "group"):
    sizes = [weight_bytes(b, grain) for b in (8, 5, 4, 3, 2)]
    points[f"one scale a {grain}"] = (sizes, [table[b, grain][0] / 100 for b in (8, 5, 4, 3, 2)])
ax = plots.tradeoff(points, xlabel="bytes of all weights, scales counted", title="LeNet-300-100, rounded to nearest")
ax.axhline(dense_errors / 100, color="0.4", linestyle="--")
_ = ax.set(yscale="log", ylim=(1.2, 120))
# %% [markdown] lang="en"
# ## 6 · Let the largest weights saturate
#
# A range that ends before the largest weight has a finer step for all the others. How much should be cut off? Search: shrink the
# range of each slice step by step and keep the one of least squared error. (Still no data is looked at.)

# %% [markdown] lang="zh"
# ## 6 · 让最大的权重饱和
#
# 如果量化范围不到最大的权重就结束，其余权重的步长就会更细。该截掉多少？用搜索来回答：把每一片的范围一步步缩小，保留平方误差最小的那个。（到这里仍然没有用到任何数据。）

# %%
shares = torch.arange(0.1, 1.001, 0.02)
best = {}
fig, ax = plt.subplots(figsize=(9, 3.3))
for k, b in enumerate((2, 3, 4, 6)):
    error = []
    for share in shares:
        s = share * W.abs().max() / quantization.integer_range(b)[1]
        W_hat = quantization.dequantize(quantization.quantize(W, s, 0, b), s)
        error.append(float((W_hat - W).square().mean() / W.square().mean()))
    ax.plot(shares, error, color=plots.COLORS[k], marker=plots.MARKERS[k], markevery=5, label=f"{b} bits")
    best[b] = float(shares[error.index(min(error))]), error[-1] / min(error)
    print(f"{b} bits: best range {best[b][0]:.2f} of the largest weight, error {best[b][1]:.1f} times smaller")
ax.set(xlabel="range / largest weight", ylabel="squared error / variance", yscale="log", title="layer 0, one scale")
ax.legend()
assert best[2][0] < best[3][0] < best[4][0] < best[6][0] and all(gain > 1 for _, gain in best.values())

# %%
print("bits   largest weight       least squared error   (errors of 10,000; tensor / row / group)")
searched = {}
cut_off = partial(quantization.fake_quantize_weights, group_size=GROUP_SIZE, clip="mse")
for b in (3, 2):
    for grain in ("tensor", "row", "group"):
        model = with_weights(partial(cut_off, n_bits=b, granularity=grain))
        searched[b, grain] = n_errors(model, digits.test_images, digits.test_labels)
    full = [str(table[b, grain][0]) for grain in ("tensor", "row", "group")]
    cut = [str(searched[b, grain]) for grain in ("tensor", "row", "group")]
    print(f"{b:3d}    {' / '.join(full):19}  {' / '.join(cut)}")
assert searched[2, "tensor"] < 0.2 * table[2, "tensor"][0] and searched[2, "tensor"] < table[2, "group"][0]

# %% [markdown] lang="en"
# The fewer the bits, the narrower the best range. On the network, at 2 bits, a searched range with *one* scale beats a full range with a
# scale for every 32 weights, and costs nothing. Look closely at the last column, though: once ranges are searched, a finer
# granularity lowers the squared error of the weights with every step, but the errors of the network do not follow exactly. Section 9
# asks why.

# %% [markdown] lang="zh"
# 比特越少，最佳范围越窄。放到网络上，2 比特时搜索出的范围配*一个*缩放因子，就胜过每 32 个权重一个缩放因子的完整范围，而且不花一个字节。
# 不过请仔细看最后一列：范围经过搜索之后，粒度每细一步，权重的平方误差都会下降，网络的错误数却不完全跟着下降。第 9 节会追问原因。

# %% [markdown] lang="en"
# **Interactive.** Move bits, granularity and range. Left: the grid on the weights of layer 0. Right: the place on the map of rate and
# error, with the bound $D(R)$ of section 12. Below: bytes, and the live accuracy of the whole network on 2,000 test images. *Try:*
# find the smallest number of bits at which the accuracy stays within half a percent of the dense network, for each granularity.

# %% [markdown] lang="zh"
# **交互图。** 调节比特数、粒度和范围。左图：网格落在第 0 层权重上的位置；右图：在码率与误差平面上的位置，以及第 12 节的下界 $D(R)$；
# 下方：字节数，以及整个网络在 2,000 张测试图像上的实时准确率。*试一试：* 对每种粒度，找出准确率与稠密网络相差不超过半个百分点的最少比特数。

# %%
from course_lib.widgets.quantization import quantization_explorer

quantization_explorer(dense, digits.test_images[::5], digits.test_labels[::5])

# %% [markdown] lang="en"
# Without a live kernel, the same map for all settings at once:

# %% [markdown] lang="zh"
# 没有运行内核时，可以看这张静态图，它把所有设置画在同一张图上：

# %%
from course_lib.widgets.quantization import quantization_values

fig, ax = plt.subplots(figsize=(9, 3.8))
for k, (grain, clip) in enumerate([("tensor", "max"), ("tensor", "mse"), ("row", "mse"), ("group", "mse")]):
    values = [quantization_values(W, b, grain, GROUP_SIZE, clip) for b in range(2, 9)]
    place = [v.rate_bits for v in values], [v.distortion for v in values]
    ax.plot(*place, marker=plots.MARKERS[k], label=f"{grain}, {clip}")
rates = torch.linspace(1.8, 8.6, 50)
bound = [quantization.gaussian_distortion_rate(float(r)) for r in rates]
ax.plot(rates, bound, "--", color="0.4", label="bound D(R), Gaussian")
ax.set(yscale="log", xlabel="rate (bits a weight, scales counted)", ylabel="error / variance", title="layer 0, 2 to 8 bits")
_ = ax.legend()
# %% [markdown] lang="en"
# ## 7 · Calibration: ranges of activations
#
# To multiply in integers, the inputs of a layer must be quantized too, and their range is not known in advance. Pass some
# training images through, watch, and decide. First look at what enters the second layer.

# %% [markdown] lang="zh"
# ## 7 · 校准：激活值的范围
#
# 要用整数做乘法，每层的输入也得量化，而输入的范围无法事先知道。办法是送入一些训练图像，观察，再决定。先看看进入第二层的是什么。

# %%
calibration = digits.subset(N_CALIBRATION).train_images
seen = {"2": [], "4": []}  # layer 0 sees pixels, whose range [0, 1] is known
hooks = [
    dense.get_submodule(name).register_forward_pre_hook(lambda layer, x, name=name: seen[name].append(x[0].detach()))
    for name in seen
]
with torch.no_grad():
    for batch in calibration.split(100):
        dense(batch)
for hook in hooks:
    hook.remove()

H = torch.cat(seen["2"])  # (2000, 300)
print(
    f"input of layer 2: {float((H == 0).double().mean()):.0%} exact zeros, rms {H.square().mean().sqrt():.2f}, "
    f"99.9 % below {H.flatten().sort().values[int(0.999 * H.numel())]:.2f}, largest {H.max():.2f}"
)

# %% [markdown] lang="en"
# One value in a thousand occupies half of the range. Five ways to answer, all with the same two methods, `observe` and `qparams`:
#
# - **min-max**: everything seen; **moving average** of each batch's extremes (Jacob et al. 2018);
# - **percentile**: leave out a fixed share, here one in a thousand;
# - **least squares**: the cut T with the smallest $\mathbb{E}(x - \hat x)^2$;
# - **entropy**: the cut T whose quantized histogram $Q$ loses the least information about the original $P$ (Migacz 2017):
#
# $$ T^* = \arg\min_{T} \sum_k P_k \ln \frac{P_k}{Q_k} $$

# %% [markdown] lang="zh"
# 千分之一的数值占去了一半的范围。下面是五种办法，用法完全一样，都是 `observe` 和 `qparams` 两个方法：
#
# - **最小最大值**：见到的全部都要；**滑动平均**：对每批的极值做平均（Jacob 等，2018）；
# - **百分位数**：固定舍去一个比例，这里是千分之一；
# - **最小平方误差**：取截断点 T，使 $\mathbb{E}(x - \hat x)^2$ 最小；
# - **熵**：取截断点 T，使量化后的直方图 $Q$ 相对于原来的 $P$ 丢失的信息最少（Migacz，2017）：
#
# $$ T^* = \arg\min_{T} \sum_k P_k \ln \frac{P_k}{Q_k} $$

# %%
observers = {
    "min-max": quantization.MinMaxObserver,
    "moving average": quantization.MovingAverageObserver,
    "percentile": lambda: quantization.PercentileObserver(keep=0.999),
    "least squares": quantization.MSEObserver,
    "entropy": quantization.EntropyObserver,
}
watching = {name: {layer: make() for layer in seen} for name, make in observers.items()}
for by_layer in watching.values():
    for layer, batches in seen.items():
        for batch in batches:
            by_layer[layer].observe(batch)

# %% [markdown] lang="en"
# Where does each of them cut? The vertical axis is logarithmic, because the outliers are few. At 8 bits there are codes enough to
# reach far out; at 3 bits the methods that know the number of bits come inward.

# %% [markdown] lang="zh"
# 它们各自在哪里截断？离群值很少，所以纵轴取对数。8 比特时编码够多，范围可以伸得很远；到 3 比特，会考虑比特数的那几种方法就把范围收回来。

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
for ax, b in zip(axes, (8, 3)):
    ax.hist(H[H > 0].numpy(), bins=100, color="0.75")
    for k, (name, by_layer) in enumerate(watching.items()):
        _, T = by_layer["2"].clip_range(b, False, False)
        dashes = ["-", "--", ":", "-.", (0, (1, 3))][k]
        ax.axvline(T, color=plots.COLORS[k], linestyle=dashes, label=f"{name}: {T:.1f}")
    ax.set(yscale="log", xlabel="activation entering layer 2", title=f"{b} bits")
    ax.legend(fontsize=9, frameon=True)
_ = axes[0].set_ylabel("count (zeros left out)")
# %% [markdown] lang="en"
# The judge is the network: quantize the inputs of layers 2 and 4 (weights stay in float32), count the errors. **Predict:** which
# method is worst at 2 bits, and does the choice matter at 8?

# %% [markdown] lang="zh"
# 裁判是网络本身：只量化第 2 层和第 4 层的输入（权重保持 float32），数一数错误。**先猜：** 2 比特时哪种方法最差？8 比特时这个选择要紧吗？

# %%
calibrated = {}
print("method           8 bits  3 bits  2 bits   errors of 10,000")
for name, by_layer in watching.items():
    for b in (8, 3, 2):
        model = copy.deepcopy(dense)
        qparams = {layer: observer.qparams(b, symmetric=False, signed=False) for layer, observer in by_layer.items()}
        quantization.attach_input_quant(model, qparams, b, signed=False)
        calibrated[name, b] = n_errors(model, digits.test_images, digits.test_labels)
    print(f"{name:15}" + "".join(f"{calibrated[name, b]:8d}" for b in (8, 3, 2)))
assert all(calibrated[name, 8] < 1.15 * dense_errors for name in observers)
assert calibrated["min-max", 2] > 3 * max(calibrated[name, 2] for name in ("percentile", "least squares", "entropy"))

# %% [markdown] lang="en"
# At 8 bits any of them will do, and min-max is the simplest. At 2 bits min-max loses by a wide margin.
#
# A trap in the entropy method: nearly half of these activations are exact zeros. Counted into the histogram they form one huge bin, and
# the recipe then cares about little else. Zero has a code of its own whatever T is, so our observer leaves zeros out; here is
# what it would answer with them:

# %% [markdown] lang="zh"
# 8 比特时哪一种都行，最小最大值最简单。到 2 比特，最小最大值就大大落后了。
#
# 熵方法有一个陷阱：这些激活值将近一半恰好是零。若把它们也计入直方图，就会形成一根巨大的柱子，算法几乎只顾得上它。无论 T 取多少，0 都有自己的编码，
# 所以我们的观察器不计零值；如果计入，它会这样回答：

# %%
with_zeros = quantization.EntropyObserver(count_zeros=True)
for batch in seen["2"]:
    with_zeros.observe(batch)
for b in (8, 4):
    for name, observer in (("left out", watching["entropy"]["2"]), ("counted", with_zeros)):
        T = observer.clip_range(b, False, False)[1]
        share = float((H > T).double().mean())
        print(f"{b} bits, zeros {name:8}: T = {T:.2f}, {share:.3%} of all values cut off")
assert with_zeros.clip_range(8, False, False)[1] < watching["entropy"]["2"].clip_range(8, False, False)[1]

# %% [markdown] lang="en"
# All but the moving average see a *set*: shuffle the batches and the answer stays the same to the last bit, because the histogram's
# bins have powers of two as widths and merge without interpolation. The moving average depends on the order by design.

# %% [markdown] lang="zh"
# 除滑动平均外，其余方法看到的是一个*集合*：打乱各批的顺序，答案逐位不变，因为直方图的柱宽都是 2 的幂，合并时不需要插值。滑动平均则本来就取决于顺序。

# %%
for name, make in observers.items():
    reversed_order = make()
    for batch in reversed(seen["2"]):
        reversed_order.observe(batch)
    same = reversed_order.clip_range(4, False, False) == watching[name]["2"].clip_range(4, False, False)
    print(f"{name:15} same answer in reversed order: {same}")
    assert same == (name != "moving average")

# %% [markdown] lang="en"
# ## 8 · A codebook: levels where the weights are
#
# Why should the levels be evenly spaced? Han et al. (2016) let $K$ shared values go wherever the weights are, and store for each
# weight only the number of its value, $\log_2 K$ bits:
#
# $$ \hat w_i = c_{q_i}, \qquad q_i = \arg\min_k |w_i - c_k|, \qquad c_k = \text{mean of the weights with code } k $$
#
# The two right-hand equations in turn are k-means. It ends in a local optimum that depends on the start: evenly over the range (linear),
# at equal shares of weights (density), or at random weights. A loop on twelve weights first, one round:

# %% [markdown] lang="zh"
# ## 8 · 码本：把电平放到权重所在的地方
#
# 电平为什么一定要等距？Han 等（2016）让 $K$ 个共享的数值自由移动到权重所在之处，每个权重只存它所属数值的编号，即 $\log_2 K$ 个比特：
#
# $$ \hat w_i = c_{q_i}, \qquad q_i = \arg\min_k |w_i - c_k|, \qquad c_k = \text{mean of the weights with code } k $$
#
# 轮流使用右边的两个式子，就是 k-means。它会停在一个取决于起点的局部最优上；起点可以在取值范围上等距（linear），可以让各段权重数目相等（density），
# 也可以随机取权重（random）。先用循环在十二个权重上做一轮：

# %%
w = W[0, 400:412].tolist()
c = quantization.initial_codebook(W[0, 400:412], 3, "linear").tolist()
codes = [min(range(3), key=lambda k: abs(w_i - c[k])) for w_i in w]
members = [[w_i for w_i, q_i in zip(w, codes) if q_i == k] for k in range(3)]
moved = [sum(m) / len(m) if m else c[k] for k, m in enumerate(members)]

one_round, _ = quantization.kmeans_codebook(W[0, 400:412], 3, "linear", n_iterations=1)
print("start", [f"{x:.4f}" for x in c], " after one round", [f"{x:.4f}" for x in moved])
assert quantization.nearest_codes(W[0, 400:412], torch.tensor(c)).tolist() == codes
assert all(members) and torch.allclose(one_round, torch.tensor(sorted(moved)))

# %%
shared_errors, distortion = {}, {}
torch.manual_seed(0)  # for the random starts
print("K   start     D of layer 0   error / variance   network errors")
for K in (16, 4):
    for start in ("linear", "density", "random"):
        model = copy.deepcopy(dense)
        quantization.share_weights_(model, K, start)
        D = distortion[K, start] = float((model[0].weight - W).square().mean().detach())
        shared_errors[K, start] = n_errors(model, digits.test_images, digits.test_labels)
        print(f"{K:2d}  {start:8}  {D:.3e}      {D / W.square().mean():.4f}             {shared_errors[K, start]}")
assert max(shared_errors[4, start] for start in ("linear", "density", "random")) < searched[2, "tensor"]
assert distortion[16, "linear"] > 1.05 * distortion[16, "density"]
assert max(distortion[4, start] for start in ("linear", "density", "random")) < 1.05 * distortion[4, "density"]

# %% [markdown] lang="en"
# At $K = 4$ the codebook does better than the searched 2-bit grid of section 6 with one scale a layer, and its codes are as long. The three
# starts end at nearly the same place. At $K = 16$ they do not: the linear start keeps a larger squared error, since it leaves the few large
# weights centroids of their own. Han et al. preferred it for just that reason.
#
# A codebook is a parameter. The gradient of a shared value is the sum over its members,
# $\partial L / \partial c_k = \sum_{i:\,q_i = k} \partial L / \partial w_i$, so the four values of each layer can be trained while the codes
# stay. Here is that sum checked against autograd, and then 60 updates of twelve numbers:

# %% [markdown] lang="zh"
# 取 $K = 4$ 时，码本胜过第 6 节每层一个缩放因子、经过搜索的 2 比特网格，而编码的长度相同。三种起点最后几乎到了同一个地方。取 $K = 16$ 时则不然：
# linear 起点留下的平方误差更大，因为它给少数较大的权重保留了专门的质心。Han 等人更推荐它，恰恰就是这个原因。
#
# 码本也是参数。共享数值的梯度等于各成员梯度之和，
# $\partial L / \partial c_k = \sum_{i:\,q_i = k} \partial L / \partial w_i$，所以可以固定编码，只训练每层的四个数。先用自动求导核对这个和，再用 60 步来更新这十二个数：

# %%
model = copy.deepcopy(dense)
codes = quantization.share_weights_(model, 4)
x, y = digits.train_images[:256], digits.train_labels[:256]
nn.functional.cross_entropy(model(x), y).backward()
from_autograd = model[2].parametrizations.weight.original.grad

plain = copy.deepcopy(dense)
with torch.no_grad():
    for name in linear:
        plain.get_submodule(name).weight.copy_(model.get_submodule(name).weight)
nn.functional.cross_entropy(plain(x), y).backward()
summed = quantization.centroid_gradient(plain[2].weight.grad, codes["2"], 4)
assert torch.allclose(from_autograd, summed, rtol=1e-3, atol=1e-5)
print("dL/dc of layer 2:", [f"{g:.3f}" for g in summed.tolist()])

# %%
fine_tuning = digits.subset(N_FINE_TUNING)


def tune(model, parameters, lr, seed=0):
    """N_STEPS updates with Adam, warm-up and cosine; the same for everything that is fine-tuned in this chapter."""
    train(
        model,
        fine_tuning.train_images,
        fine_tuning.train_labels,
        optimizer=Adam(list(parameters), lr=lr),
        schedule=lambda step: warmup_cosine(step, N_STEPS, lr, n_warmup=3),
        batch_size=128,
        seed=seed,
        progress=False,
    )
    return n_errors(model, digits.test_images, digits.test_labels)


codebooks = [model.get_submodule(name).parametrizations.weight.original for name in linear]
tuned_errors = tune(model, codebooks, lr=1e-3)
print(f"4 shared values a layer: {shared_errors[4, 'linear']} wrong; {tuned_errors} with these 12 numbers tuned")
assert tuned_errors < shared_errors[4, "linear"]

# %% [markdown] lang="en"
# ## 9 · Up or down? Stochastic rounding and AdaRound
#
# Rounding to nearest makes the smallest error on each weight. Is it the best choice for the *network*? Two challengers.
#
# **Stochastic rounding** goes up with the probability of the fraction, so it is right on average:
# $\mathbb{E}\, r(x) = \lfloor x \rfloor + (x - \lfloor x \rfloor) = x$. The price: a variance of $f(1-f)$, on average $1/6$ in place of $1/12$.

# %% [markdown] lang="zh"
# ## 9 · 向上还是向下？随机舍入与 AdaRound
#
# 就近取整使每个权重的误差最小。对*网络*来说，它也是最好的选择吗？有两位挑战者。
#
# **随机舍入**以小数部分为概率向上取整，因此平均而言没有偏差：
# $\mathbb{E}\, r(x) = \lfloor x \rfloor + (x - \lfloor x \rfloor) = x$。代价是方差 $f(1-f)$，平均为 $1/6$，而就近取整只有 $1/12$。

# %%
generator = torch.Generator().manual_seed(0)
x = 10 * torch.rand(200_000, generator=generator)
r = quantization.stochastic_round(x, generator)
print(f"mean error of stochastic rounding: {float((r - x).mean()):+.5f} steps")
print(
    f"squared error: stochastic {float((r - x).square().mean()):.4f} (1/6 = {1 / 6:.4f}), "
    f"nearest {float((x.round() - x).square().mean()):.4f} (1/12 = {1 / 12:.4f})"
)
assert abs(float((r - x).square().mean()) - 1 / 6) < 0.003  # 5 standard deviations of the mean

total_nearest, total_lot = torch.zeros(()), torch.zeros(())
for _ in range(1000):  # a thousand updates of a tenth of a step, kept in integers
    total_nearest = (total_nearest + 0.1).round()
    total_lot = quantization.stochastic_round(total_lot + 0.1, generator)
print(f"sum of 1,000 updates of 0.1: nearest {float(total_nearest):.0f}, stochastic {float(total_lot):.0f}, true 100")
assert total_nearest == 0 and abs(total_lot - 100) < 48  # five standard deviations of sqrt(1000 * 0.09)

# %% [markdown] lang="en"
# That is what stochastic rounding is for: sums of many small updates, as in training with few bits. For weights that are rounded once,
# twice the squared error is a bad bargain: see the column of output errors in the next table.
#
# **AdaRound** (Nagel et al. 2020) asks what the layer's *output* loses. With the weight error $d$ of a row and inputs $x$,
#
# $$ \mathbb{E}\,(x \cdot d)^2 = d^\top \Sigma\, d, \qquad \Sigma = \mathbb{E}\, x x^\top $$
#
# Where inputs go together, $\Sigma$ has large entries off the diagonal, and errors of opposite sign cancel. Each weight gets a number
# $h \in [0, 1]$ (0 down, 1 up) that gradient descent moves, and a term that finally pushes every $h$ to an end:
#
# $$ \min_{v}\ \frac{\mathbb{E}\|(W - W_{soft})x\|^2}{\mathbb{E}\|(W - W_{near})x\|^2} + \frac{\lambda}{n} \sum_i \bigl(1 - |2 h(v_i) - 1|^\beta\bigr) $$

# %% [markdown] lang="zh"
# 这正是随机舍入的用武之地：大量微小更新的累加，例如用很少的比特训练。对于只取整一次的权重，平方误差翻倍并不划算：请看下表中输出误差那一列。
#
# **AdaRound**（Nagel 等，2020）关心的是这一层的*输出*损失了多少。设某一行权重的误差为 $d$，输入为 $x$，则
#
# $$ \mathbb{E}\,(x \cdot d)^2 = d^\top \Sigma\, d, \qquad \Sigma = \mathbb{E}\, x x^\top $$
#
# 如果几个输入常常同起同落，$\Sigma$ 的非对角元素就很大，符号相反的误差可以相互抵消。给每个权重一个数
# $h \in [0, 1]$（0 向下，1 向上），用梯度下降来调整它，再加一项，最终把每个 $h$ 推到两端：
#
# $$ \min_{v}\ \frac{\mathbb{E}\|(W - W_{soft})x\|^2}{\mathbb{E}\|(W - W_{near})x\|^2} + \frac{\lambda}{n} \sum_i \bigl(1 - |2 h(v_i) - 1|^\beta\bigr) $$

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2))
v = torch.linspace(-4, 4, 401)
axes[0].plot(v, quantization.rectified_sigmoid(v), label="rectified sigmoid h(v)")
axes[0].plot(v, v.sigmoid(), "--", label="plain sigmoid")
axes[0].set(xlabel="v", ylabel="h", title="reaches 0 and 1 for finite v")
h = torch.linspace(0, 1, 201)
for k, beta in enumerate((20, 6, 2)):
    values = [float(quantization.rounding_regularizer(h[i : i + 1], beta)) for i in range(len(h))]
    axes[1].plot(h, values, linestyle=["-", "--", ":"][k], label=f"beta = {beta}")
axes[1].set(xlabel="h", ylabel="penalty", title="first free, then pushed to an end")
for ax in axes:
    ax.legend()

# %% [markdown] lang="en"
# Layer 2 at 2 and 3 bits, with the searched range, calibrated on the 2,000 training images of section 7. The errors of the network are
# counted with only this layer quantized.

# %% [markdown] lang="zh"
# 取第 2 层，用 2 比特和 3 比特、搜索出的范围，以第 7 节的 2,000 张训练图像校准。统计网络的错误数时，只量化这一层。

# %%
W2, output_errors = dense[2].weight.detach(), {}
for b in (3, 2):
    s, z = quantization.weight_qparams(W2, b, clip="mse")
    codes = {
        "nearest": quantization.quantize(W2, s, z, b),
        "stochastic": quantization.quantize_stochastic(W2, s, z, b, generator=torch.Generator().manual_seed(0)),
        "AdaRound": quantization.adaround(W2, H, s, z, b, n_steps=200),
    }
    for name, q in codes.items():
        model, W2_hat = copy.deepcopy(dense), quantization.dequantize(q, s, z)
        model[2].weight.data = W2_hat
        output_errors[name, b] = quantization.output_error(W2, W2_hat, H)
        print(
            f"{b} bits  {name:10}  weight SNR {quantization.signal_to_noise_db(W2, W2_hat):5.1f} dB   output error "
            f"{output_errors[name, b]:7.2f}   {n_errors(model, digits.test_images, digits.test_labels)} wrong"
        )
    assert output_errors["AdaRound", b] < 0.5 * output_errors["nearest", b] < output_errors["stochastic", b]

# %% [markdown] lang="en"
# AdaRound's weights are *farther* from the originals than those of nearest rounding, and the layer's output error is less than half of theirs.
# That answers section 6: the squared error of the weights is a proxy, and a poor one where inputs are correlated.
# GPTQ (the planned chapter `05_4_large_language_models`) minimizes the same $d^\top \Sigma\, d$ greedily, which is fast enough for billions of weights.

# %% [markdown] lang="zh"
# AdaRound 得到的权重比就近取整*更远离*原来的权重，而这一层的输出误差却不到后者的一半。这就回答了第 6 节的问题：权重的平方误差只是一个替代指标，
# 输入相关时它并不可靠。GPTQ（计划中的 `05_4_large_language_models` 章）用贪心法最小化同一个 $d^\top \Sigma\, d$，快到足以处理数十亿个权重。

# %% [markdown] lang="en"
# ## 10 · Training through the rounding
#
# So far the network was finished and we rounded it (*post-training quantization*). Now let it adapt. The obstacle: the derivative of
# round is 0 almost everywhere, so no gradient arrives. The straight-through estimator pretends it is 1 within the range:
#
# $$ \hat x = s\bigl(\mathrm{clip}(\mathrm{round}(x/s) + z, q_{\min}, q_{\max}) - z\bigr), \qquad
#    \frac{\partial L}{\partial x} := \frac{\partial L}{\partial \hat x}\,
#    [\,q_{\min} \le \mathrm{round}(x/s) + z \le q_{\max}\,] $$
#
# The optimizer keeps a full-precision shadow weight; small updates add up there until the code flips.

# %% [markdown] lang="zh"
# ## 10 · 带着取整训练
#
# 到目前为止，都是网络训练好之后再取整（*训练后量化*）。现在让网络来适应取整。障碍在于：round 的导数几乎处处为 0，梯度传不过来。
# 直通估计则假装它在范围之内等于 1：
#
# $$ \hat x = s\bigl(\mathrm{clip}(\mathrm{round}(x/s) + z, q_{\min}, q_{\max}) - z\bigr), \qquad
#    \frac{\partial L}{\partial x} := \frac{\partial L}{\partial \hat x}\,
#    [\,q_{\min} \le \mathrm{round}(x/s) + z \le q_{\max}\,] $$
#
# 优化器保存着一份全精度的影子权重；微小的更新在那里积累，直到编码变动一格。

# %%
x = torch.tensor([-3.0, -2.4, 0.3, 1.4, 1.6], requires_grad=True)
quantization.fake_quantize(x, 1.0, 0, n_bits=2).sum().backward()  # codes -2, -1, 0, 1
print("borrowed gradient:", x.grad.tolist())
assert x.grad.tolist() == [0, 1, 1, 1, 0]

honest = torch.tensor([-3.0, -2.4, 0.3, 1.4, 1.6], requires_grad=True)
honest.round().clamp(-2, 1).sum().backward()
print("honest gradient:  ", honest.grad.tolist())
assert not honest.grad.any()

v = torch.tensor([0.3], dtype=torch.double, requires_grad=True)
try:
    torch.autograd.gradcheck(lambda v: quantization.fake_quantize(v, 1.0, 0, 4), v)
except RuntimeError as refusal:
    print("gradcheck:        ", str(refusal).splitlines()[0][:75])
else:
    raise AssertionError("gradcheck should have refused a gradient that is not the derivative")

# %% [markdown] lang="en"
# `gradcheck` refuses it, and rightly so: the estimator is not the derivative. It is judged by what it achieves.
#
# At 2 bits the step size matters as much as the weights. **LSQ** (Esser et al. 2020) makes it a parameter. Differentiate
# $\hat v = s \cdot \mathrm{round}(v/s)$ by the product rule, with the derivative of round taken as 1:
#
# $$ \frac{\partial \hat v}{\partial s} := \begin{cases} \mathrm{round}(v/s) - v/s & -Q_n < v/s < Q_p \\ -Q_n & v/s \le -Q_n \\ Q_p & v/s \ge Q_p \end{cases}
#    \qquad \nu = \frac{1}{\sqrt{N\,Q_p}}, \qquad s_0 = \frac{2\,\overline{|v|}}{\sqrt{Q_p}} $$
#
# where $Q_n = -q_{\min}$, $Q_p = q_{\max}$. Values inside pull by their distance from the grid point, saturated ones by the end of the range;
# $\nu$ slows the sum over $N$ values down to the pace of a single weight. By hand, for four values:

# %% [markdown] lang="zh"
# `gradcheck` 拒绝了它，而且拒绝得有理：直通估计本来就不是导数。评判它，要看效果。
#
# 2 比特时，步长与权重同样重要。**LSQ**（Esser 等，2020）把步长也变成参数。对 $\hat v = s \cdot \mathrm{round}(v/s)$ 用乘积法则求导，并把 round 的导数当作 1：
#
# $$ \frac{\partial \hat v}{\partial s} := \begin{cases} \mathrm{round}(v/s) - v/s & -Q_n < v/s < Q_p \\ -Q_n & v/s \le -Q_n \\ Q_p & v/s \ge Q_p \end{cases}
#    \qquad \nu = \frac{1}{\sqrt{N\,Q_p}}, \qquad s_0 = \frac{2\,\overline{|v|}}{\sqrt{Q_p}} $$
#
# 其中 $Q_n = -q_{\min}$，$Q_p = q_{\max}$。范围内的数值按它到格点的距离起作用，饱和的数值按范围的端点起作用；$N$ 个数值之和走得太快，$\nu$ 把它放慢到单个权重的步伐。
# 用四个数值手算一遍：

# %%
v = torch.tensor([-3.0, 0.4, 0.6, 2.0])
s = torch.tensor(1.0, requires_grad=True)
quantization.lsq_quantize(v, s, n_bits=2).sum().backward()
by_hand = (-2 + (0 - 0.4) + (1 - 0.6) + 1) * quantization.lsq_gradient_scale(n_values=4, q_max=1)
print(f"dL/ds = {float(s.grad):.4f}, by hand {by_hand:.4f}")
print(f"start for layer 0 at 2 bits: s = {float(quantization.lsq_initial_scale(W, 2)):.4f}")
assert math.isclose(float(s.grad), by_hand, rel_tol=1e-5)

# %% [markdown] lang="en"
# Now the comparison, at 2 bits, with equal budgets: each arm starts from the dense network and takes the same 60 updates on the same
# 7,680 images, with three seeds for their order. (1) Fine-tune in float32, then round each row with the searched range. (2) The same grid,
# but trained through it. (3) LSQ, one learned step a layer. `attach_fake_quant` and `attach_lsq` put the rounding on the weights, `make_permanent`
# takes the machinery off again.

# %% [markdown] lang="zh"
# 现在在 2 比特上比较，预算相同：每一组都从稠密网络出发，在同样的 7,680 张图像上更新 60 步，用三个随机种子决定图像的顺序。
# （1）先用 float32 微调，再对每行用搜索出的范围取整；（2）同样的网格，但带着取整训练；（3）LSQ，每层一个可学习的步长。
# `attach_fake_quant` 和 `attach_lsq` 把取整装到权重上，`make_permanent` 再把这套机制拆下来。


# %%
def fake(model):
    return quantization.attach_fake_quant(model, 2, "row", clip="mse")


arms = {"round afterwards": [], "straight-through": [], "LSQ": []}
for seed in SEEDS:
    model = copy.deepcopy(dense)
    tune(model, model.parameters(), lr=1e-3, seed=seed)
    rounded = quantization.make_permanent(fake(model))
    arms["round afterwards"].append(n_errors(rounded, digits.test_images, digits.test_labels))
    for name, attach in (("straight-through", fake), ("LSQ", lambda m: quantization.attach_lsq(m, 2))):
        model = attach(copy.deepcopy(dense))
        arms[name].append(tune(model, model.parameters(), lr=1e-3, seed=seed))
for name, errors in arms.items():
    print(f"{name:17} errors of 10,000: {errors}")
print(f"rounded without any fine-tuning: {searched[2, 'row']}")

# %%
for name in ("straight-through", "LSQ"):
    print(f"{name} against rounding afterwards:", verdict(arms[name], arms["round afterwards"], higher_is_better=False))
    lost = [errors - dense_errors for errors in arms["round afterwards"]]
    won_back = [before - after for before, after in zip(arms["round afterwards"], arms[name])]
    print(f"   won back: {sum(won_back) / sum(lost):.0%} of what rounding afterwards loses")
    assert all(gain > 0 for gain in won_back) and sum(won_back) > sum(lost) / 3
print("LSQ against straight-through:", verdict(arms["LSQ"], arms["straight-through"], higher_is_better=False))
print(f"the dense network: {dense_errors}")

final = quantization.make_permanent(model)  # the last LSQ network, as a plain one
assert n_errors(final, digits.test_images, digits.test_labels) == arms["LSQ"][-1]
print("values per layer:", [final.get_submodule(name).weight.unique().numel() for name in linear])

# %% [markdown] lang="en"
# Fine-tuning without the rounding in the way does not prepare a network for it. Sixty updates with it win back the share
# printed above, with each seed. Three seeds speak about this network and this
# budget, no more; chapter [4.2](04_2_quantization_in_practice.ipynb) trains longer and quantizes activations too.

# %% [markdown] lang="zh"
# 微调时若没有取整，网络就不会为取整做好准备。带着取整只更新六十步，每个种子都赢回了相当一部分损失，比例见上面的输出。三个随机种子只能说明这个网络、这个预算下的情况；第 [4.2](04_2_quantization_in_practice.ipynb) 章会训练更久，
# 并且把激活值也一起量化。

# %% [markdown] lang="en"
# ## 11 · Real bytes
#
# A code of 2 bits in an int8 tensor saves nothing. Pack the codes of the LSQ network side by side: four in a byte. The size is
# predicted first:
#
# $$ \mathrm{size\_bytes} = \left\lceil \tfrac{\mathrm{count} \cdot \mathrm{n\_bits}}{8} \right\rceil $$
#
# for the codes, 4 bytes for the step of each layer, 4 for each bias.

# %% [markdown] lang="zh"
# ## 11 · 真正的字节
#
# 把 2 比特的编码放在 int8 张量里，一点空间也没省。把 LSQ 网络的编码紧挨着打包，每个字节放四个。先预测大小：
#
# $$ \mathrm{size\_bytes} = \left\lceil \tfrac{\mathrm{count} \cdot \mathrm{n\_bits}}{8} \right\rceil $$
#
# 这是编码的部分；另外每层的步长占 4 个字节，每个偏置占 4 个字节。

# %%
predicted = sum(
    quantization.packed_size_bytes(layer.weight.numel(), 2) + 4 + 4 * layer.bias.numel() for layer in linear.values()
)

pieces = []
for name in linear:
    layer = final.get_submodule(name)
    s = layer.weight.detach().abs()
    s = s[s > 0].min()  # codes are -2, -1, 0, 1: the smallest magnitude in use is one step
    q = quantization.quantize(layer.weight.detach(), s, 0, 2)
    assert quantization.dequantize(q, s).allclose(layer.weight, rtol=1e-6)
    pieces += [bytes(quantization.pack_bits(q, 2).numpy()), s.numpy().tobytes(), layer.bias.detach().numpy().tobytes()]

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "lenet.bin"
    path.write_bytes(b"".join(pieces))
    measured, data = path.stat().st_size, path.read_bytes()
print(
    f"predicted {predicted:,} bytes, measured {measured:,}; dense {dense_bytes(dense):,}: "
    f"{dense_bytes(dense) / measured:.1f} times smaller"
)
assert measured == predicted

# %% [markdown] lang="en"
# And back again: a network is rebuilt from nothing but these bytes and the three shapes, and must make the same errors.

# %% [markdown] lang="zh"
# 再读回来：只凭这些字节和三个形状重建网络，它犯的错误必须完全一样。

# %%
rebuilt, file = lenet_300_100(seed=1), io.BytesIO(data)


def read(n, dtype=torch.uint8):
    """The next n bytes of the file, as a tensor."""
    return torch.frombuffer(bytearray(file.read(n)), dtype=dtype)


with torch.no_grad():
    for name in linear:
        layer = rebuilt.get_submodule(name)
        count = layer.weight.numel()
        q = quantization.unpack_bits(read(quantization.packed_size_bytes(count, 2)), 2, count, signed=True)
        layer.weight.copy_(quantization.dequantize(q, read(4, torch.float32)[0]).reshape(layer.weight.shape))
        layer.bias.copy_(read(4 * layer.bias.numel(), torch.float32))
rebuilt_errors = n_errors(rebuilt, digits.test_images, digits.test_labels)
print(f"{rebuilt_errors} wrong, {arms['LSQ'][-1]} before packing")
assert not file.read() and rebuilt_errors == arms["LSQ"][-1]

# %% [markdown] lang="en"
# ## 12 · How far from the best possible?
#
# For a Gaussian source, no quantizer of $R$ bits a value, however clever, has a smaller mean squared error than
#
# $$ D(R) = \sigma^2 \, 2^{-2R} $$
#
# (Shannon 1959). The distance of a quantizer from it is best told in bits: $\mathrm{gap} = R - \tfrac12 \log_2 (\sigma^2 / D)$. At 2 bits
# on a unit Gaussian, from exact integrals:

# %% [markdown] lang="zh"
# ## 12 · 离极限还有多远？
#
# 对高斯信源，每个数值用 $R$ 个比特的量化器无论多么巧妙，均方误差都不可能小于
#
# $$ D(R) = \sigma^2 \, 2^{-2R} $$
#
# （Shannon，1959）。量化器与它的距离，用比特来表示最清楚：$\mathrm{gap} = R - \tfrac12 \log_2 (\sigma^2 / D)$。对标准高斯分布、2 比特，由精确积分得到：

# %%
rivals = {
    "uniform, best step": (quantization.uniform_quantizer(4), 2.0),
    "Lloyd-Max": (quantization.lloyd_max(4), 2.0),
    "uniform + entropy code": (quantization.entropy_coded_scalar(2.0), 2.0),
}
gaps = {}
for name, (quantizer, rate) in rivals.items():
    gaps[name] = quantization.rate_gap_bits(quantizer.distortion, rate)
    print(f"{name:24} {len(quantizer.levels):3d} levels   D = {quantizer.distortion:.6f}   {gaps[name]:.4f} bits above")
print(f"the bound{'':30} D = {quantization.gaussian_distortion_rate(2.0):.6f}")
assert abs(rivals["Lloyd-Max"][0].distortion - 0.117482) < 2e-6
assert abs(rivals["uniform, best step"][0].distortion - 0.118846) < 2e-6
assert abs(gaps["Lloyd-Max"] - 0.455) < 1e-3 and abs(gaps["uniform + entropy code"] - 0.2546) < 1e-3

# %% [markdown] lang="en"
# Two lessons. Placing four levels as well as possible (Lloyd-Max, which is k-means on the density) gains 0.009 bit over an even grid. Giving up
# the fixed length, with more levels and short codes for the frequent ones, gains 0.2 bit. And even then 0.2546 bit are lost, at every
# high rate: $\tfrac12 \log_2 (2 \pi e / 12)$, the price of quantizing one number at a time.
#
# Real weights are not exactly Gaussian. Where does layer 0 stand? Compare the searched grid of section 6, the codebook of section 8, and
# an even grid of free step whose levels are the means of their cells, behind an ideal entropy code (levels counted at 16 bits each):

# %% [markdown] lang="zh"
# 两点启示。把四个电平放到最好的位置（Lloyd-Max，也就是在密度函数上做 k-means），比等距网格只多得 0.009 比特；放弃固定长度，用更多的电平，
# 并给常见的电平分配短编码，则多得 0.2 比特。即便如此，在所有较高的码率上仍要损失 0.2546 比特：$\tfrac12 \log_2 (2 \pi e / 12)$，这是一次只量化一个数的代价。
#
# 真实的权重并不完全服从高斯分布。第 0 层处在什么位置？比较三种方案：第 6 节搜索过的网格，第 8 节的码本，以及步长可任意选取的等距网格；
# 最后一种以每个区间的均值为电平，并配上理想的熵编码（每个电平计 16 比特）：

# %%
variance = float(W.double().square().mean())
sigma = math.sqrt(variance)
entropy_coded, codebook = [], []
for step in (2.0, 1.4, 1.0, 0.7, 0.5, 0.35, 0.25, 0.12, 0.06):
    q = (W.flatten().double() / (step * sigma)).round().long()
    q -= q.min()
    counts = q.bincount()
    levels = q.bincount(weights=W.flatten().double()) / counts.clamp(min=1)  # each level at the mean of its members
    rate = entropy_bits(counts) + 16 * len(levels) / W.numel()
    entropy_coded.append((rate, float((levels[q] - W.flatten()).square().mean()) / variance))
for b in range(1, 6):
    c, q = quantization.kmeans_codebook(W, 2**b, "density", n_iterations=100)
    codebook.append((b + 16 * 2**b / W.numel(), quantization.codebook_distortion(W, c, q) / variance))
grid = [quantization_values(W, b, "row", clip="mse") for b in range(2, 7)]
fixed = [(v.rate_bits, v.distortion) for v in grid]

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.8))
rates = torch.linspace(0.4, 6, 60)
bound = [quantization.gaussian_distortion_rate(float(r)) for r in rates]
axes[0].plot(rates, bound, "--", color="0.4", label="D(R), Gaussian")
lines = {"grid a row, searched": fixed, "k-means": codebook, "grid + entropy code": entropy_coded}
for k, (name, line) in enumerate(lines.items()):
    r, d = zip(*line)
    axes[0].plot(r, d, color=plots.COLORS[k], marker=plots.MARKERS[k], label=name)
    gap = [quantization.rate_gap_bits(distortion, rate) for rate, distortion in line]
    axes[1].plot(r, gap, color=plots.COLORS[k], marker=plots.MARKERS[k])
axes[0].set(yscale="log", xlabel="rate (bits a weight)", ylabel="error / variance", title="layer 0")
axes[1].set(xlabel="rate (bits a weight)", ylabel="bits above D(R)", title="distance from the Gaussian bound")
axes[1].axhline(0, color="0.4", linestyle="--")
axes[1].axhline(quantization.SPACE_FILLING_GAP_BITS, color="0.4", linestyle=":")
_ = axes[0].legend(fontsize=9)
# %%
print("rate    bits above the bound: predicted for a Gaussian, measured on layer 0")
for rate, D in entropy_coded:
    predicted = quantization.rate_gap_bits(quantization.entropy_coded_scalar(rate).distortion, rate)
    measured = quantization.rate_gap_bits(D, rate)
    print(f"{rate:.2f}    {predicted:.3f}   {measured:.3f}")
    assert abs(measured - predicted) < 0.05
largest_gap = max(quantization.rate_gap_bits(D, rate) for rate, D in entropy_coded)
smallest_fixed = min(quantization.rate_gap_bits(D, rate) for rate, D in fixed + codebook[1:])
print(f"fixed length, 2 bits and more: at least {smallest_fixed:.3f}")
assert all(k_means[1] < even[1] for k_means, even in zip(codebook[1:], fixed))  # 2 to 5 bits
assert largest_gap < smallest_fixed

# %% [markdown] lang="en"
# The entropy-coded grid (triangles) is the closest at every rate, and the prediction made for a Gaussian is met to a few hundredths of a bit:
# about 0.25 bit (dotted) from 2 bits up. The codebook places its levels better than a grid does and still pays more, because its codes all have
# the same length. That is why Deep Compression puts an entropy code behind its codebook (the planned chapter `04_4_deep_compression`).
#
# The Gaussian is the hardest of all sources of one variance. For weights of another shape, pruned ones for example, the true bound lies lower,
# and a distance below zero would be no contradiction.

# %% [markdown] lang="zh"
# 在每个码率上，熵编码的网格（三角形）都最接近下界，而且按高斯分布所作的预测与实测只差百分之几比特：从 2 比特起约为 0.25 比特（点线）。
# 码本的电平比网格放得更好，付出的却更多，因为它的编码长度全都一样。Deep Compression 之所以在码本之后再加一道熵编码（计划中的 `04_4_deep_compression` 章），原因就在这里。
#
# 方差相同的所有信源中，高斯分布是最难压缩的。对于其他形状的权重（例如剪枝之后的），真正的下界更低，距离小于零也不矛盾。

# %% [markdown] lang="en"
# ## Summary
#
# - `round(w)` without a scale erases a network, because trained weights are nearly all smaller than 0.5. One number $s$ mends it.
# - $s$ and $z$ follow from two conditions. The range must hold 0; then no value moves by more than $s/2$, and 0 stays 0.
# - The error is $s^2/12$ and a bit is worth 6.02 dB, until there are so few bits that everything rounds to 0. Outliers cost bits.
# - At 8 bits nearly everything works. At 2 bits it took all of these: clipping the range, granularity, training through the rounding,
#   rounding for the output.
# - Calibration is a choice of range for data seen in batches; min-max fails first.
# - On Gaussian data, the best fixed-length scalar quantizer of 2 bits stays 0.455 bit above the bound, an entropy-coded one 0.255 bit.
#
# **Functions used**
#
# - scale, zero point, codes: `course_lib.quantization.round_to_integer`, `course_lib.quantization.integer_range`, `course_lib.quantization.choose_qparams`, `course_lib.quantization.quantize`, `course_lib.quantization.dequantize`
# - error theory: `course_lib.quantization.uniform_noise_variance`, `course_lib.quantization.signal_to_noise_db`, `course_lib.quantization.predicted_snr_db`, `course_lib.quantization.peak_to_rms`
# - granularity: `course_lib.quantization.to_groups`, `course_lib.quantization.from_groups`, `course_lib.quantization.weight_qparams`, `course_lib.quantization.fake_quantize_weights`, `course_lib.quantization.quantized_bits`
# - calibration: `course_lib.quantization.Histogram`, `course_lib.quantization.MinMaxObserver`, `course_lib.quantization.MovingAverageObserver`, `course_lib.quantization.PercentileObserver`, `course_lib.quantization.MSEObserver`, `course_lib.quantization.EntropyObserver`, `course_lib.quantization.attach_input_quant`
# - codebook: `course_lib.quantization.initial_codebook`, `course_lib.quantization.nearest_codes`, `course_lib.quantization.kmeans_codebook`, `course_lib.quantization.apply_codebook`, `course_lib.quantization.codebook_distortion`, `course_lib.quantization.centroid_gradient`, `course_lib.quantization.SharedWeights`, `course_lib.quantization.share_weights_`
# - rounding: `course_lib.quantization.stochastic_round`, `course_lib.quantization.quantize_stochastic`, `course_lib.quantization.rectified_sigmoid`, `course_lib.quantization.rounding_regularizer`, `course_lib.quantization.output_error`, `course_lib.quantization.adaround`
# - training: `course_lib.quantization.fake_quantize`, `course_lib.quantization.lsq_initial_scale`, `course_lib.quantization.lsq_gradient_scale`, `course_lib.quantization.lsq_quantize`, `course_lib.quantization.FakeQuantWeight`, `course_lib.quantization.LSQWeight`, `course_lib.quantization.attach_fake_quant`, `course_lib.quantization.attach_lsq`, `course_lib.quantization.make_permanent`
# - bytes: `course_lib.quantization.packed_size_bytes`, `course_lib.quantization.pack_bits`, `course_lib.quantization.unpack_bits`
# - the bound: `course_lib.quantization.gaussian_distortion_rate`, `course_lib.quantization.rate_gap_bits`, `course_lib.quantization.gaussian_cells`, `course_lib.quantization.gaussian_quantizer`, `course_lib.quantization.ScalarQuantizer`, `course_lib.quantization.uniform_quantizer`, `course_lib.quantization.lloyd_max`, `course_lib.quantization.entropy_coded_scalar`
# - interactive figure: `course_lib.widgets.quantization.quantization_explorer`, `course_lib.widgets.quantization.quantization_values`, `course_lib.widgets.quantization.QuantizationValues`, `course_lib.widgets.quantization.quantized_copy`
#
# **Exercises** [3.2 Quantization](../../exercises/en/03_2_quantization.ipynb)
#
# **Next** [3.3 Knowledge distillation](03_3_knowledge_distillation.ipynb)
#
# **Sources**
#
# - Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only inference", CVPR.
# - Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference", arXiv 1806.08342.
# - Migacz 2017, "8-bit inference with TensorRT", GPU Technology Conference.
# - Han, Mao, Dally 2016, "Deep Compression", ICLR.
# - Gupta et al. 2015, "Deep learning with limited numerical precision", ICML.
# - Nagel et al. 2020, "Up or down? Adaptive rounding for post-training quantization", ICML.
# - Bengio et al. 2013, "Estimating or propagating gradients through stochastic neurons", arXiv 1308.3432.
# - Esser et al. 2020, "Learned step size quantization", ICLR.
# - Bennett 1948, "Spectra of quantized signals", Bell System Technical Journal.
# - Shannon 1959, "Coding theorems for a discrete source with a fidelity criterion", IRE Convention Record; Lloyd 1982 and Max 1960 for the
#   best scalar quantizer; Gish and Pierce 1968 for the 0.2546 bit.

# %% [markdown] lang="zh"
# ## 小结
#
# - 没有缩放因子的 `round(w)` 会抹掉整个网络，因为训练好的权重几乎都小于 0.5。加上一个数 $s$ 就好了。
# - $s$ 和 $z$ 由两个条件推出。范围必须包含 0；这样任何数值的移动都不超过 $s/2$，0 仍然是 0。
# - 误差是 $s^2/12$，一个比特值 6.02 dB，直到比特少到几乎一切都变成 0 为止。离群值要多花比特。
# - 8 比特时几乎怎么做都行。到 2 比特，下面几样缺一不可：截断范围、粒度、带着取整训练、着眼于输出来取整。
# - 校准就是为分批到来的数据选择范围；最先失效的是最小最大值。
# - 在高斯数据上，2 比特的最佳定长标量量化器比下界高 0.455 比特；配上熵编码则为 0.255 比特。
#
# **用到的函数**
#
# - 缩放因子、零点、编码：`course_lib.quantization.round_to_integer`、`course_lib.quantization.integer_range`、`course_lib.quantization.choose_qparams`、`course_lib.quantization.quantize`、`course_lib.quantization.dequantize`
# - 误差理论：`course_lib.quantization.uniform_noise_variance`、`course_lib.quantization.signal_to_noise_db`、`course_lib.quantization.predicted_snr_db`、`course_lib.quantization.peak_to_rms`
# - 粒度：`course_lib.quantization.to_groups`、`course_lib.quantization.from_groups`、`course_lib.quantization.weight_qparams`、`course_lib.quantization.fake_quantize_weights`、`course_lib.quantization.quantized_bits`
# - 校准：`course_lib.quantization.Histogram`、`course_lib.quantization.MinMaxObserver`、`course_lib.quantization.MovingAverageObserver`、`course_lib.quantization.PercentileObserver`、`course_lib.quantization.MSEObserver`、`course_lib.quantization.EntropyObserver`、`course_lib.quantization.attach_input_quant`
# - 码本：`course_lib.quantization.initial_codebook`、`course_lib.quantization.nearest_codes`、`course_lib.quantization.kmeans_codebook`、`course_lib.quantization.apply_codebook`、`course_lib.quantization.codebook_distortion`、`course_lib.quantization.centroid_gradient`、`course_lib.quantization.SharedWeights`、`course_lib.quantization.share_weights_`
# - 舍入：`course_lib.quantization.stochastic_round`、`course_lib.quantization.quantize_stochastic`、`course_lib.quantization.rectified_sigmoid`、`course_lib.quantization.rounding_regularizer`、`course_lib.quantization.output_error`、`course_lib.quantization.adaround`
# - 训练：`course_lib.quantization.fake_quantize`、`course_lib.quantization.lsq_initial_scale`、`course_lib.quantization.lsq_gradient_scale`、`course_lib.quantization.lsq_quantize`、`course_lib.quantization.FakeQuantWeight`、`course_lib.quantization.LSQWeight`、`course_lib.quantization.attach_fake_quant`、`course_lib.quantization.attach_lsq`、`course_lib.quantization.make_permanent`
# - 字节：`course_lib.quantization.packed_size_bytes`、`course_lib.quantization.pack_bits`、`course_lib.quantization.unpack_bits`
# - 下界：`course_lib.quantization.gaussian_distortion_rate`、`course_lib.quantization.rate_gap_bits`、`course_lib.quantization.gaussian_cells`、`course_lib.quantization.gaussian_quantizer`、`course_lib.quantization.ScalarQuantizer`、`course_lib.quantization.uniform_quantizer`、`course_lib.quantization.lloyd_max`、`course_lib.quantization.entropy_coded_scalar`
# - 交互图：`course_lib.widgets.quantization.quantization_explorer`、`course_lib.widgets.quantization.quantization_values`、`course_lib.widgets.quantization.QuantizationValues`、`course_lib.widgets.quantization.quantized_copy`
#
# **练习** [3.2 量化](../../exercises/zh/03_2_quantization.ipynb)
#
# **下一章** [3.3 知识蒸馏](03_3_knowledge_distillation.ipynb)
#
# **参考文献**
#
# - Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only inference"，CVPR。
# - Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference"，arXiv 1806.08342。
# - Migacz 2017, "8-bit inference with TensorRT"，GPU Technology Conference。
# - Han, Mao, Dally 2016, "Deep Compression"，ICLR。
# - Gupta et al. 2015, "Deep learning with limited numerical precision"，ICML。
# - Nagel et al. 2020, "Up or down? Adaptive rounding for post-training quantization"，ICML。
# - Bengio et al. 2013, "Estimating or propagating gradients through stochastic neurons"，arXiv 1308.3432。
# - Esser et al. 2020, "Learned step size quantization"，ICLR。
# - Bennett 1948, "Spectra of quantized signals"，Bell System Technical Journal。
# - Shannon 1959, "Coding theorems for a discrete source with a fidelity criterion"，IRE Convention Record；最佳标量量化器见 Lloyd 1982 与 Max 1960；0.2546 比特见 Gish and Pierce 1968。
