# %% [markdown] lang="en"
# # Exercise 3.2 · Quantization
#
# Eight tasks, 30 points, about 90 minutes. They belong to chapter [3.2](../../notebooks/en/03_2_quantization.ipynb). You write a
# quantizer from its formula, mend the document's listing, find out why rows get their own scale, derive 6.02 dB a bit, carry a
# gradient through a staircase, pack 3-bit codes, and finally write the test that would have caught the usual mistakes.
#
# Run the cells from top to bottom. A check cell says nothing when you are right, and shows both values when you are not. Do not
# use `course_lib.quantization`: it is what you are building. A number halfway between two marks may be rounded to either.
#
# What is graded are the answer cells alone: put helpers of your own into them. An answer may use the setup cell's imports and
# helpers and your other answers; the cells of pictures and checks are not there when it is graded.

# %% [markdown] lang="zh"
# # 练习 3.2 · 量化
#
# 共八项任务，30 分，约需 90 分钟，对应第 [3.2](../../notebooks/zh/03_2_quantization.ipynb) 章。你将从公式写出一个量化器，修好原文的代码，弄清为什么每行要有自己的缩放因子，推导“每比特 6.02 dB”，让梯度穿过阶梯，把 3 位编码紧密打包，最后写出一个能抓住常见错误的测试。
#
# 请从上到下依次运行。答对时检查单元格没有任何输出，答错时会同时给出你的值和正确的值。请不要使用 `course_lib.quantization`：它正是你要亲手实现的东西。恰好落在两个刻度正中的数，舍入到哪一边都算对。
#
# 评分时只看作答单元格，自己写的辅助函数也请放在里面。答案可以使用准备单元格中导入的库和函数，以及你的其他答案；画图和检查的单元格在评分时并不存在。

# %% role="setup"
import math

import matplotlib.pyplot as plt
import torch
from course_lib import plots

plots.use_course_style()
torch.set_num_threads(1)


def normal(*shape, seed=0):
    """Gaussian numbers, the same at every run."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# %% [markdown] lang="en"
# ## Task 1 · A ruler with a scale (3 points)
#
# The document writes `round(w)`. Its ruler has marks at the integers only; yours has marks every $s$, and as many as $b$ bits
# can number:
#
# $$ s = \frac{\max_i |w_i|}{2^{b-1}-1}, \qquad q_i = \mathrm{round}(w_i / s), \qquad \hat w_i = s\, q_i $$
#
# A tensor of zeros has no largest weight to measure by: it gets $s = 1$. Constraint: no loop. About 4 lines.
#
# <details><summary>Hint 1</summary>With 3 bits the codes run from -3 to 3. Which weight gets the code 3?</details>
# <details><summary>Hint 2</summary>Compute the scale, replace it by 1 where it is 0, divide, round, turn into integers.</details>

# %% [markdown] lang="zh"
# ## 任务 1 · 带刻度的尺子（3 分）
#
# 原文写的是 `round(w)`：它的尺子只在整数处有刻度。你的尺子每隔 $s$ 有一个刻度，刻度的数目以 $b$ 位能编号的为限：
#
# $$ s = \frac{\max_i |w_i|}{2^{b-1}-1}, \qquad q_i = \mathrm{round}(w_i / s), \qquad \hat w_i = s\, q_i $$
#
# 全零张量没有最大权重可作标准，这时规定 $s = 1$。要求：不写循环。约 4 行。
#
# <details><summary>提示 1</summary>3 位时编码从 -3 到 3。哪个权重会得到编码 3？</details>
# <details><summary>提示 2</summary>先算缩放因子，为 0 时换成 1，再相除、取整、转成整数。</details>

# %% role="given"
W = normal(40) * 0.1
figure, axis = plt.subplots(figsize=(9, 1.6))
axis.plot(W, torch.zeros(40), "|", markersize=18, label="weights")
axis.plot(torch.arange(-3, 4) * float(W.abs().max()) / 3, torch.zeros(7), "o", label="marks of a 3-bit ruler")
axis.plot([0.0], [0.0], "x", markersize=12, label="marks of round(w) within the picture")
axis.set(xlabel="weight", yticks=[], ylim=(-1, 1))
axis.legend(loc="upper center", ncols=3)
plt.show()

# %% [markdown] lang="en"
# The picture shows both rulers over the same forty weights: the document's has a single mark here, zero.

# %% [markdown] lang="zh"
# 图中用两把尺子量同样的四十个权重：原文的那把在这一范围内只有一个刻度，就是零。

# %% role="answer" id="symmetric"
import torch


def quantize_symmetric(W: torch.Tensor, n_bits: int) -> tuple[torch.Tensor, float]:
    """Return the codes q (torch.int64, shape of W) and the scale s (a Python float, > 0)."""
    # BEGIN SOLUTION (about 4 lines)
    s = float(W.abs().max()) / (2 ** (n_bits - 1) - 1)
    s = s if s > 0 else 1.0
    return torch.round(W / s).to(torch.int64), s
    # END SOLUTION


# %% role="check" id="symmetric-check" points="3"
q, s = quantize_symmetric(torch.tensor([0.5, -1.5, 0.0, 0.7]), 3)
assert abs(s - 0.5) < 1e-6, f"scale: got {s}, want 1.5 / 3 = 0.5"
assert q.tolist() == [1, -3, 0, 1], f"codes: got {q.tolist()}, want [1, -3, 0, 1]"
assert q.dtype == torch.int64, f"codes must be torch.int64, got {q.dtype}"
q, s = quantize_symmetric(torch.zeros(3), 4)
assert (q.tolist(), s) == ([0, 0, 0], 1.0), f"all zero: got {q.tolist()} and scale {s}, want zeros and 1.0"
W = normal(1000, seed=1)
q, s = quantize_symmetric(W, 8)
worst = float((W - s * q).abs().max())
assert worst <= s / 2 * (1 + 1e-5), f"largest error: got {worst}, must be at most s / 2 = {s / 2}"
assert int(q.abs().max()) == 127, f"the largest |weight| must use the largest code: got {int(q.abs().max())}, want 127"

# %% [markdown] lang="en" role="solution"
# **What the scale buys.** The rounding error is at most half a step, whatever the weights are; with `round(w)` the "step" is 1 and
# a weight of 0.3 loses all of itself. Note the $2^{b-1}-1$: with $2^{b-1}$ the largest weight would get the code 128, which does
# not exist in 8 bits.

# %% [markdown] lang="zh" role="solution"
# **缩放因子换来了什么。** 不论权重多大，舍入误差都不超过半步；而 `round(w)` 的“步长”是 1，权重 0.3 会全部丢失。注意分母是 $2^{b-1}-1$：若写成 $2^{b-1}$，最大的权重会得到编码 128，而 8 位里没有这个数。

# %% [markdown] lang="en"
# ## Task 2 · A range that holds zero (4 points)
#
# After a ReLU all values are positive: half of the symmetric codes would never be used. An affine ruler covers $[l, h]$ with the
# codes $0 \dots 2^b-1$, and an integer $z$ stands for the number 0:
#
# $$ s = \frac{h - l}{2^b - 1}, \qquad z = \mathrm{round}(-l / s), \qquad q = \mathrm{clip}\bigl(\mathrm{round}(w/s) + z,\; 0,\; 2^b-1\bigr) $$
#
# **Think first:** values between 3 and 5, 8 bits. What is $z$ by this formula, and can 8 unsigned bits hold it? Stretch the range
# before you use it, so that $l \le 0 \le h$. If nothing is left of the range, take $s = 1$, $z = 0$. About 5 lines.
#
# <details><summary>Hint 1</summary>For [3, 5], $z = -382$. Clipped to 0 it would make every code 255.</details>
# <details><summary>Hint 2</summary>`min(low, 0.0)` and `max(high, 0.0)`; both are needed.</details>

# %% [markdown] lang="zh"
# ## 任务 2 · 让范围包含零（4 分）
#
# 经过 ReLU 之后所有值都非负，对称编码有一半永远用不到。仿射的尺子用编码 $0 \dots 2^b-1$ 覆盖 $[l, h]$，并用一个整数 $z$ 代表实数 0：
#
# $$ s = \frac{h - l}{2^b - 1}, \qquad z = \mathrm{round}(-l / s), \qquad q = \mathrm{clip}\bigl(\mathrm{round}(w/s) + z,\; 0,\; 2^b-1\bigr) $$
#
# **先想一想：** 数值在 3 和 5 之间，8 位。按公式 $z$ 等于多少？8 位无符号整数装得下吗？请先把范围扩大到满足 $l \le 0 \le h$ 再用。若范围缩成一个点，取 $s = 1$，$z = 0$。约 5 行。
#
# <details><summary>提示 1</summary>对于 [3, 5]，$z = -382$。截断成 0 之后，所有编码都会变成 255。</details>
# <details><summary>提示 2</summary>`min(low, 0.0)` 与 `max(high, 0.0)`，两个都要。</details>


# %% role="answer" id="affine-range"
def affine_qparams(low: float, high: float, n_bits: int) -> tuple[float, int]:
    """Return the scale s > 0 and the zero point z, an int in 0 ... 2^n_bits - 1."""
    # BEGIN SOLUTION (about 5 lines)
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return 1.0, 0
    s = (high - low) / (2**n_bits - 1)
    return s, round(-low / s)
    # END SOLUTION


# %% role="check" id="affine-range-check" points="4"
for (low, high, n_bits), (s_want, z_want) in {
    (-1.0, 2.0, 2): (1.0, 1),
    (3.0, 5.0, 8): (5 / 255, 0),
    (-5.0, -3.0, 8): (5 / 255, 255),
    (0.0, 0.0, 4): (1.0, 0),
    (-0.28, 0.47, 4): (0.05, 6),
}.items():
    s, z = affine_qparams(low, high, n_bits)
    assert abs(s - s_want) < 1e-9, f"[{low}, {high}], {n_bits} bits: scale {s}, want {s_want}"
    assert z == z_want and isinstance(z, int), f"[{low}, {high}], {n_bits} bits: zero point {z!r}, want {z_want}"

# %% [markdown] lang="en" role="solution"
# **Why zero must be a code.** Padding, ReLU and pruned weights are exactly 0; if 0 falls between two codes, each of them adds the
# same small error, and thousands of equal errors do not cancel. The stretched range costs resolution ([3, 5] pays for [0, 5]), the
# unstretched one costs everything: all codes saturate.

# %% [markdown] lang="zh" role="solution"
# **为什么零必须有自己的编码。** 填充、ReLU 和被剪掉的权重都恰好是 0；若 0 落在两个编码之间，每一处都会带来同样的小误差，而成千上万个相同的误差不会互相抵消。扩大范围会损失分辨率（[3, 5] 要付出 [0, 5] 的代价），不扩大则损失一切：所有编码都会饱和。

# %% [markdown] lang="en"
# ## Task 3 · Mend the listing (4 points)
#
# Listing 4.2 calls `tf.quantization.quantize_weights`. There is no such function, and the listing sends the bias through it as well.
# Write what it should have been: every weight matrix by the affine formula of Task 2, with low and high from the matrix itself,
#
# $$ \hat W = s\,(Q - z), \qquad Q = \mathrm{clip}\bigl(\mathrm{round}(W/s) + z,\; 0,\; 2^b-1\bigr), \qquad b_i \text{ untouched} $$
#
# and everything that is not a matrix (two dimensions or more) as it was. Write the few lines out here; do not call Task 2. Return
# new tensors; the input must not change. About 8 lines.
#
# <details><summary>Hint 1</summary>A bias is added to a sum of hundreds of products. What would an error of half a weight step do there?</details>
# <details><summary>Hint 2</summary>Loop over the names, not over the weights; `torch.clamp` does the clip.</details>

# %% [markdown] lang="zh"
# ## 任务 3 · 修好这段代码（4 分）
#
# 原文的代码 4.2 调用了 `tf.quantization.quantize_weights`，这个函数并不存在；而且它把偏置也一并送了进去。请写出它本该有的样子：每个权重矩阵按任务 2 的仿射公式处理，范围取自矩阵本身，
#
# $$ \hat W = s\,(Q - z), \qquad Q = \mathrm{clip}\bigl(\mathrm{round}(W/s) + z,\; 0,\; 2^b-1\bigr), \qquad b_i \text{ untouched} $$
#
# 不是矩阵（不足两维）的参数保持原样。请在这里把那几行重新写出来，不要调用任务 2。返回新张量，不得改动输入。约 8 行。
#
# <details><summary>提示 1</summary>偏置要加到几百个乘积的和上。偏置若有半个权重步长的误差，会怎样？</details>
# <details><summary>提示 2</summary>对名字循环，不对权重循环；截断用 `torch.clamp`。</details>

# %% role="answer" id="mend-listing"
import torch


def quantize_parameters(parameters: dict[str, torch.Tensor], n_bits: int) -> dict[str, torch.Tensor]:
    """Return new parameters: tensors of two or more dimensions on an affine n_bits grid, all others as they were."""
    # BEGIN SOLUTION (about 8 lines)
    new = {}
    for name, W in parameters.items():
        if W.ndim < 2:
            new[name] = W.clone()
            continue
        low, high = min(float(W.min()), 0.0), max(float(W.max()), 0.0)
        s = (high - low) / (2**n_bits - 1) or 1.0
        z = round(-low / s)
        new[name] = s * (torch.clamp(torch.round(W / s) + z, 0, 2**n_bits - 1) - z)
    return new
    # END SOLUTION


# %% role="check" id="mend-listing-check" points="4"
given = {"weight": torch.tensor([[-1.0, 0.4], [2.0, 0.0]]), "bias": torch.tensor([0.3, -7.7]), "zero": torch.zeros(2, 2)}
before = {name: X.clone() for name, X in given.items()}
got = quantize_parameters(given, n_bits=2)
expected = {"weight": torch.tensor([[-1.0, 0.0], [2.0, 0.0]]), "bias": given["bias"], "zero": torch.zeros(2, 2)}
for name in given:
    assert torch.allclose(got[name], expected[name], atol=1e-6), (
        f"{name}:\n got {got[name].tolist()}\nwant {expected[name].tolist()}"
    )
    assert torch.equal(given[name], before[name]), f"the input {name} was changed to {given[name].tolist()}"
W = normal(30, 40, seed=2) + 6  # all between 2 and 10: the range must be stretched to hold 0
W_hat, step = quantize_parameters({"W": W}, 8)["W"], float(W.max()) / 255
assert W_hat.unique().numel() <= 256, f"{W_hat.unique().numel()} different values, but 8 bits number only 256"
worst = float((W - W_hat).abs().max())
assert worst <= 0.51 * step, f"largest error {worst}, must be at most half a step, {step / 2}"

# %% [markdown] lang="en" role="solution"
# **The bias.** A layer of LeNet-300-100 has 784 weights a unit and one bias. Quantizing the bias to 8 bits saves 3 bytes where the
# weights save 2,352, and its error enters the sum unmixed, while 784 rounding errors partly cancel. Integer kernels keep it in 32
# bits, with the scale $s_w s_x$ of the products it is added to.

# %% [markdown] lang="zh" role="solution"
# **关于偏置。** LeNet-300-100 的一个单元有 784 个权重和一个偏置。把偏置压到 8 位只省 3 个字节，权重却省 2,352 个；而且偏置的误差原封不动地进入求和，784 个舍入误差则会部分抵消。整数内核把偏置存成 32 位，缩放因子取它所要加上的那些乘积的缩放因子，即 $s_w s_x$。

# %% [markdown] lang="en"
# ## Task 4 · One ruler for each row (3 points)
#
# One large weight makes the ruler coarse for all weights that share it. Give each row (output unit) its own scale:
#
# $$ s_i = \frac{\max_j |w_{ij}|}{2^{b-1}-1}, \qquad \hat w_{ij} = s_i\,\mathrm{round}(w_{ij}/s_i) $$
#
# With `per_row=False` one scale serves the whole matrix. Rows of zeros stay zeros. Constraint: no loop over rows. About 4 lines.
#
# <details><summary>Hint 1</summary>`W.abs().amax(dim=1, keepdim=True)` has the shape (out, 1), which broadcasts.</details>
# <details><summary>Hint 2</summary>`torch.where(s > 0, s, 1.0)` before you divide.</details>

# %% [markdown] lang="zh"
# ## 任务 4 · 每行一把尺子（3 分）
#
# 一个很大的权重，会让共用这把尺子的所有权重都量得很粗。请给每一行（每个输出单元）自己的缩放因子：
#
# $$ s_i = \frac{\max_j |w_{ij}|}{2^{b-1}-1}, \qquad \hat w_{ij} = s_i\,\mathrm{round}(w_{ij}/s_i) $$
#
# `per_row=False` 时整个矩阵共用一个缩放因子。全零的行保持为零。要求：不得对行写循环。约 4 行。
#
# <details><summary>提示 1</summary>`W.abs().amax(dim=1, keepdim=True)` 的形状是 (out, 1)，可以广播。</details>
# <details><summary>提示 2</summary>相除之前先做 `torch.where(s > 0, s, 1.0)`。</details>

# %% role="answer" id="granularity"
import torch


def round_weights(W: torch.Tensor, n_bits: int, per_row: bool = True) -> torch.Tensor:
    """Return W_hat: W (out, in) on a symmetric grid, with one scale a row or one for the matrix."""
    # BEGIN SOLUTION (about 4 lines)
    largest = W.abs().amax(dim=1, keepdim=True) if per_row else W.abs().max()
    s = largest / (2 ** (n_bits - 1) - 1)
    s = torch.where(s > 0, s, 1.0)
    return s * torch.round(W / s)
    # END SOLUTION


# %% role="check" id="granularity-check" points="3"
W = torch.tensor([[0.3, -0.1, 0.2], [30.0, 10.0, -20.0], [0.0, 0.0, 0.0]])
got = round_weights(W, 3)
assert torch.allclose(got, W, atol=1e-5), (
    f"per row, 3 bits: every weight is on its row's grid\n got {got.tolist()}\nwant {W.tolist()}"
)
got = round_weights(W, 3, per_row=False)
want = torch.tensor([[0.0, 0.0, 0.0], [30.0, 10.0, -20.0], [0.0, 0.0, 0.0]])
assert torch.allclose(got, want, atol=1e-5), f"one scale for all:\n got {got.tolist()}\nwant {want.tolist()}"
W = normal(20, 50, seed=3) * torch.logspace(-2, 0, 20)[:, None]
errors = {way: float((round_weights(W, 4, way)[0] - W[0]).square().mean() / W[0].square().mean()) for way in (True, False)}
assert errors[True] < 0.02, f"relative error of the smallest row with its own scale: got {errors[True]}, want below 0.02"
assert errors[False] == 1, f"with one scale for all the smallest row is erased: got relative error {errors[False]}, want 1"

# %% [markdown] lang="en" role="solution"
# **Rows yes, columns no.** A row's scale can be taken out of its sum, $y_i = s_i \sum_j q_{ij} x_j$, so the inner loop stays in integers.
# A column's scale would stand inside the sum. The price is one number a row: for 784 inputs and fp32 scales, 0.04 bit a weight.

# %% [markdown] lang="zh" role="solution"
# **可以按行，不能按列。** 行的缩放因子可以提到求和号外面，$y_i = s_i \sum_j q_{ij} x_j$，内层循环仍然全是整数；列的缩放因子则留在求和号里面。代价是每行多存一个数：输入为 784、缩放因子用 fp32 时，每个权重只多 0.04 位。

# %% [markdown] lang="en"
# ## Task 5 · 6.02 dB a bit: derive, then measure (3 + 3 points)
#
# **By hand (3 points).** A value is rounded to a grid of step $s$; assume the error $e$ is uniform on $[-s/2, s/2]$. Show that
# $\mathbb{E}\,e^2 = s^2/12$, and from it that one more bit on the same range raises the signal-to-noise ratio by $20 \log_{10} 2$
# decibel. Say where the assumption fails.

# %% [markdown] lang="zh"
# ## 任务 5 · 每比特 6.02 dB：先推导，再测量（3 + 3 分）
#
# **手算（3 分）。** 一个数被舍入到步长为 $s$ 的网格上，假设误差 $e$ 在 $[-s/2, s/2]$ 上均匀分布。证明 $\mathbb{E}\,e^2 = s^2/12$，并由此证明：范围不变而多用一位，信噪比提高 $20 \log_{10} 2$ 分贝。再说明这个假设在什么情况下不成立。

# %% [markdown] lang="en" role="answer" id="derive-snr" points="3"
# With density $1/s$ on $[-s/2, s/2]$,
#
# $$ \mathbb{E}\,e^2 = \frac1s \int_{-s/2}^{s/2} e^2\,de = \frac1s \cdot \frac{2}{3}\Bigl(\frac s2\Bigr)^3 = \frac{s^2}{12} $$
#
# A range of width $r$ cut into $2^b$ steps has $s = r\,2^{-b}$. One more bit halves $s$ and divides the error by 4, and $10 \log_{10} 4
# = 20 \log_{10} 2 = 6.02$ dB. It fails when the density is not flat over one step (2 or 3 bits, or all values on the grid already)
# and when values lie outside the range: clipping errors are not bounded by $s/2$.

# %% [markdown] lang="zh" role="answer" id="derive-snr" points="3"
# 误差在 $[-s/2, s/2]$ 上的密度为 $1/s$，于是
#
# $$ \mathbb{E}\,e^2 = \frac1s \int_{-s/2}^{s/2} e^2\,de = \frac1s \cdot \frac{2}{3}\Bigl(\frac s2\Bigr)^3 = \frac{s^2}{12} $$
#
# 把宽度为 $r$ 的范围分成 $2^b$ 步，$s = r\,2^{-b}$。多一位，$s$ 就减半，均方误差变为四分之一，而 $10 \log_{10} 4
# = 20 \log_{10} 2 = 6.02$ dB。当密度在一步之内并不平坦时（只有 2、3 位，或数值本来就在网格上），以及有数值落在范围之外时，假设不成立：截断误差不受 $s/2$ 约束。

# %% [markdown] lang="en"
# **Then measure (3 points).** Write the ratio itself, in decibel:
#
# $$ \mathrm{SNR} = 10 \log_{10} \frac{\sum_i w_i^2}{\sum_i (w_i - \hat w_i)^2} $$
#
# No error at all gives `math.inf`, also where all weights are 0. Square and sum in double precision. About 4 lines.
#
# <details><summary>Hint 1</summary>`W.double()` first, then square and sum.</details>
# <details><summary>Hint 2</summary>Ask whether the noise is 0 before you divide by it.</details>

# %% [markdown] lang="zh"
# **再测量（3 分）。** 写出信噪比本身，以分贝为单位：
#
# $$ \mathrm{SNR} = 10 \log_{10} \frac{\sum_i w_i^2}{\sum_i (w_i - \hat w_i)^2} $$
#
# 完全没有误差时返回 `math.inf`，权重全为 0 时也不例外。平方与求和都用双精度。约 4 行。
#
# <details><summary>提示 1</summary>先 `W.double()`，再平方、求和。</details>
# <details><summary>提示 2</summary>相除之前，先看噪声是不是 0。</details>

# %% role="answer" id="snr"
import math
import torch


def snr_db(W: torch.Tensor, W_hat: torch.Tensor) -> float:
    """Return the signal-to-noise ratio in decibel; math.inf without any error."""
    # BEGIN SOLUTION (about 4 lines)
    noise = float((W.double() - W_hat.double()).square().sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(float(W.double().square().sum()) / noise)
    # END SOLUTION


# %% role="check" id="snr-check" points="3"
W = torch.tensor([3.0, 4.0])
for W_hat, want in ((W + torch.tensor([0.3, 0.4]), 20.0), (W, math.inf), (torch.zeros(2), 0.0)):
    got = snr_db(W, W_hat)
    assert got == want or abs(got - want) < 1e-4, f"W {W.tolist()}, W_hat {W_hat.tolist()}: got {got} dB, want {want} dB"
W = torch.rand(20_000, generator=torch.Generator().manual_seed(4)) * 2 - 1
snr_of = {}
for n_bits in range(2, 11):
    step = 2 / 2**n_bits
    snr_of[n_bits] = snr_db(W, (torch.floor(W / step) + 0.5) * step)
    assert abs(snr_of[n_bits] - 6.0206 * n_bits) < 0.1, (
        f"{n_bits} bits: got {snr_of[n_bits]} dB, want {6.0206 * n_bits} +- 0.1 dB"
    )

# %% role="given"
axis = plots.curves({"measured, uniform weights": (list(snr_of), list(snr_of.values()))}, xlabel="bits", ylabel="SNR (dB)")
axis.plot([2, 10], [2 * 6.0206, 10 * 6.0206], "--", color=plots.COLORS[1], label="6.02 dB a bit")
axis.legend()
plt.show()

# %% [markdown] lang="en"
# The measured points lie on the line of 6.02 dB a bit, from 2 bits on: uniform weights meet the assumption exactly.

# %% [markdown] lang="zh"
# 从 2 位起，测得的点都落在“每比特 6.02 dB”的直线上：均匀分布的权重恰好满足那个假设。

# %% [markdown] lang="en"
# ## Task 6 · A gradient for a staircase (3 points)
#
# The derivative of `round` is 0 almost everywhere, so nothing learns through it. The straight-through estimator keeps the staircase in
# the forward pass and pretends in the backward pass that it was a ramp, cut off where the codes saturate:
#
# $$ \hat x = s\,\mathrm{clip}(\mathrm{round}(x/s), q_{\min}, q_{\max}), \qquad
#    \frac{\partial L}{\partial x} := \frac{\partial L}{\partial \hat x}\,[\,q_{\min} \le \mathrm{round}(x/s) \le q_{\max}\,] $$
#
# Constraint: one function of tensors that autograd differentiates to the formula; `detach` is enough. About 4 lines.
#
# <details><summary>Hint 1</summary>`ramp + (staircase - ramp).detach()` has the value of the staircase and the gradient of the ramp.</details>
# <details><summary>Hint 2</summary>Which ramp has the gradient 0 outside? One that `torch.where` replaces by a constant there.</details>

# %% [markdown] lang="zh"
# ## 任务 6 · 给阶梯一个梯度（3 分）
#
# `round` 的导数几乎处处为 0，梯度过不去，什么也学不到。直通估计在前向保留阶梯，在反向则假装它是一条斜坡，编码饱和之处梯度为零：
#
# $$ \hat x = s\,\mathrm{clip}(\mathrm{round}(x/s), q_{\min}, q_{\max}), \qquad
#    \frac{\partial L}{\partial x} := \frac{\partial L}{\partial \hat x}\,[\,q_{\min} \le \mathrm{round}(x/s) \le q_{\max}\,] $$
#
# 要求：写成一个张量函数，由自动求导得到上式；用 `detach` 就够了。约 4 行。
#
# <details><summary>提示 1</summary>`ramp + (staircase - ramp).detach()` 取阶梯的值，用斜坡的梯度。</details>
# <details><summary>提示 2</summary>什么样的斜坡在外侧梯度为 0？用 `torch.where` 把外侧换成常数的那种。</details>

# %% role="answer" id="straight-through"
import torch


def fake_quantize(x: torch.Tensor, s: float, q_min: int, q_max: int) -> torch.Tensor:
    """Return x_hat; its gradient with respect to x is 1 where the code lies in q_min ... q_max, and 0 elsewhere."""
    # BEGIN SOLUTION (about 4 lines)
    code = torch.round(x.detach() / s)
    staircase = s * code.clamp(q_min, q_max)
    ramp = torch.where((code >= q_min) & (code <= q_max), x, staircase)
    return ramp + (staircase - ramp).detach()
    # END SOLUTION


# %% role="check" id="straight-through-check" points="3"
x = torch.tensor([-9.0, -2.2, -1.6, 0.2, 1.3, 1.6, 9.0], requires_grad=True)
x_hat = fake_quantize(x, 0.5, -4, 3)
assert x_hat.requires_grad, "the result has no gradient at all; want one that reaches x"
(x_hat * torch.arange(1.0, 8.0)).sum().backward()
x_hat = x_hat.detach()
want = [-2.0, -2.0, -1.5, 0.0, 1.5, 1.5, 1.5]
assert torch.allclose(x_hat, torch.tensor(want), atol=1e-6), f"forward: got {x_hat.tolist()}, want {want}"
want = [0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0]
assert x.grad is not None and x.grad.tolist() == want, (
    f"gradient: got {None if x.grad is None else x.grad.tolist()}, want {want}"
)

# %% [markdown] lang="en" role="solution"
# **A borrowed gradient.** The true derivative of the forward pass is 0, so `torch.autograd.gradcheck` would call this wrong, and it is
# not a derivative. It works because the weight that is kept in full precision adds up many small pushes until it crosses a step.
# Outside the range a push outward could never change anything, so the gradient there is 0.

# %% [markdown] lang="zh" role="solution"
# **借来的梯度。** 前向的真实导数是 0，`torch.autograd.gradcheck` 会判它错，而它也确实不是导数。它之所以有效，是因为以全精度保存的权重会把许多次微小的推动累积起来，直到跨过一级台阶。在范围之外，再往外推也不会改变什么，所以那里的梯度为 0。

# %% [markdown] lang="en"
# ## Task 7 · No empty bits (4 points)
#
# "3 bits" saves nothing as long as each code sits in a byte of its own. Lay unsigned codes side by side, the lowest bits first:
#
# $$ \sum_j \mathrm{byte}_j\, 2^{8j} = \sum_i q_i\, 2^{\,b i}, \qquad \text{number of bytes} = \lceil n b / 8 \rceil $$
#
# The left side is how `int.to_bytes(..., "little")` writes a whole number. Three codes 5, 1, 7 make $5 + 1 \cdot 8 + 7 \cdot 64 = 461$,
# which is the bytes 205, 1. The width $b$ may be anything from 1 to 16. Refuse codes that do not fit, with a ValueError. About 6
# lines.
#
# <details><summary>Hint 1</summary>Python's integers have no upper limit: build the whole number, then ask it for its bytes.</details>
# <details><summary>Hint 2</summary>`<<` shifts, `|` joins; the number of bytes is `-(-n * n_bits // 8)`.</details>

# %% [markdown] lang="zh"
# ## 任务 7 · 不留空位（4 分）
#
# 只要每个编码还独占一个字节，“3 位”就什么也没省下。请把无符号编码一个挨一个排好，低位在前：
#
# $$ \sum_j \mathrm{byte}_j\, 2^{8j} = \sum_i q_i\, 2^{\,b i}, \qquad \text{number of bytes} = \lceil n b / 8 \rceil $$
#
# 等式左边就是 `int.to_bytes(..., "little")` 写整数的方式。三个编码 5、1、7 合成 $5 + 1 \cdot 8 + 7 \cdot 64 = 461$，即字节 205、1。位宽 $b$ 可以是 1 到 16 的任何整数。装不下的编码要用 ValueError 拒绝。约 6 行。
#
# <details><summary>提示 1</summary>Python 的整数没有上限：先拼出整个大数，再把它转成字节。</details>
# <details><summary>提示 2</summary>`<<` 负责移位，`|` 负责拼接；字节数是 `-(-n * n_bits // 8)`。</details>


# %% role="answer" id="pack-codes"
def pack_codes(codes: list[int], n_bits: int) -> bytes:
    """Return ceil(len(codes) * n_bits / 8) bytes; ValueError for a code outside 0 ... 2^n_bits - 1."""
    # BEGIN SOLUTION (about 6 lines)
    stream = 0
    for i, code in enumerate(codes):
        if not 0 <= code < 2**n_bits:
            raise ValueError(f"code {code} does not fit into {n_bits} bits")
        stream |= code << (i * n_bits)
    return stream.to_bytes(-(-len(codes) * n_bits // 8), "little")
    # END SOLUTION


# %% role="check" id="pack-codes-check" points="4"
for codes, n_bits, want in (
    ([5, 1, 7], 3, [205, 1]),
    ([1, 0, 1, 1], 1, [13]),
    ([0, 0, 0], 5, [0, 0]),
    ([255, 1], 8, [255, 1]),
    ([15, 2, 9], 4, [47, 9]),
    ([], 3, []),
):
    got = list(pack_codes(codes, n_bits))
    assert got == want, f"{codes} at {n_bits} bits: got {got}, want {want}"
assert len(pack_codes([7] * 1000, 3)) == 375, f"1000 codes of 3 bits: got {len(pack_codes([7] * 1000, 3))} bytes, want 375"
for codes in ([8], [-1], [0, 9, 0]):
    try:
        got = pack_codes(codes, 3)
    except ValueError:
        continue
    raise AssertionError(f"{codes} at 3 bits: got {list(got)}, want a ValueError")

# %% [markdown] lang="en" role="solution"
# **Three bits are awkward** because a code may lie across two bytes; that is why production kernels like 4 and 8 and store 3 as 2 + 1
# planes. The bytes are the same. The one large number makes the code short but costs time that grows with the square of its length:
# for a million weights shift arrays instead, as `course_lib.quantization.pack_bits` does.

# %% [markdown] lang="zh" role="solution"
# **3 位不太顺手**，因为一个编码可能横跨两个字节；所以实际的内核偏爱 4 和 8 位，并把 3 位拆成 2 + 1 两层存放，字节数不变。拼成一个大数写起来很短，但耗时随长度的平方增长；权重上百万时应对数组移位，`course_lib.quantization.pack_bits` 就是这样做的。

# %% [markdown] lang="en"
# ## Task 8 · Write the test (4 points)
#
# Below stand a good quantizer and four bad ones. Write `test_quantizer`: it returns quietly for a good one and raises an
# `AssertionError` for each bad one. It may call the quantizer as often as it likes, but knows nothing of its inside. State properties,
# not examples copied from a run:
#
# $$ |w - \hat w| \le \tfrac s2 \text{ with } s = \frac{\max|w|}{2^{b-1}-1}, \qquad \hat{\hat w} = \hat w, \qquad \hat w(0) = 0, \qquad
#    \#\{\hat w\} \le 2^b - 1 $$
#
# The third speaks of a tensor of zeros. Allow rounding noise of `1e-5` of the largest weight. A quantizer that keeps all four is
# good, whatever its inside; it need not round like the one below. When your work is graded, the test also meets quantizers that you
# do not see. Each bad one breaks a property plainly, for any thousand Gaussian numbers at some of the widths from 2 to 8 bits, or for
# zeros. About 10 lines.
#
# <details><summary>Hint 1</summary>Each of the four properties catches one of the four. Which one does an all-zero tensor catch?</details>
# <details><summary>Hint 2</summary>Try every width from 2 to 8 bits, several seeds, and far more numbers than the ruler has marks.</details>

# %% [markdown] lang="zh"
# ## 任务 8 · 自己写测试（4 分）
#
# 下面有一个好的量化器和四个坏的。请写 `test_quantizer`：遇到好的，安静地返回；遇到每一个坏的，都抛出 `AssertionError`。它可以任意多次调用量化器，但对其内部一无所知。请写性质，不要照抄某次运行的结果：
#
# $$ |w - \hat w| \le \tfrac s2 \text{ with } s = \frac{\max|w|}{2^{b-1}-1}, \qquad \hat{\hat w} = \hat w, \qquad \hat w(0) = 0, \qquad
#    \#\{\hat w\} \le 2^b - 1 $$
#
# 第三条说的是全零张量。浮点误差容许到最大权重的 `1e-5`。只要满足全部四条，不论内部怎样实现，都是好的量化器，不必与下面那个逐位相同。评分时，你的测试还会遇到这里看不到的量化器；其中每个坏的都明显违反某条性质：在 2 到 8 位中的某些位宽上，任取一千个高斯随机数就能看出，或者用全零张量就能看出。约 10 行。
#
# <details><summary>提示 1</summary>四条性质各抓住一个坏的。全零张量抓住的是哪一个？</details>
# <details><summary>提示 2</summary>从 2 到 8 位每种位宽都试，多换几个随机种子，张量里的数要远多于刻度。</details>


# %% role="given"
def good(W, n_bits):
    """Symmetric, largest weight on the last mark."""
    s = W.abs().max() / (2 ** (n_bits - 1) - 1)
    return s * torch.round(W / s) if s > 0 else torch.zeros_like(W)


def rounds_down(W, n_bits):
    """The error reaches a whole step."""
    s = W.abs().max() / (2 ** (n_bits - 1) - 1)
    return s * torch.floor(W / s) if s > 0 else torch.zeros_like(W)


def divides_by_zero(W, n_bits):
    """An all-zero tensor becomes NaN."""
    s = W.abs().max() / (2 ** (n_bits - 1) - 1)
    return s * torch.round(W / s)


def uses_a_bit_more(W, n_bits):
    """Smaller errors than promised, paid for with a bit that nobody counted."""
    return good(W, n_bits + 1)


def shrinks(W, n_bits):
    """Each call makes the weights a little smaller: quantizing twice is not quantizing once."""
    return 0.999 * good(W, n_bits)


# %% role="answer" id="property-test"
import torch


def test_quantizer(quantizer) -> None:
    """Raise AssertionError unless quantizer(W, n_bits) -> W_hat keeps the four properties."""
    # BEGIN SOLUTION (about 10 lines)
    for n_bits in range(2, 9):
        zeros = quantizer(torch.zeros(5), n_bits)
        assert torch.equal(zeros, torch.zeros(5)), f"zeros became {zeros.tolist()}"
        for seed in range(3):
            W = torch.randn(2000, generator=torch.Generator().manual_seed(seed))
            W_hat, largest = quantizer(W, n_bits), float(W.abs().max())
            half_step = largest / (2 ** (n_bits - 1) - 1) / 2
            worst, again = float((W - W_hat).abs().max()), quantizer(W_hat, n_bits)
            assert worst <= half_step + 1e-5 * largest, f"error {worst} exceeds half a step, {half_step}"
            assert torch.allclose(again, W_hat, atol=1e-5 * largest), "quantizing twice differs from quantizing once"
            assert W_hat.unique().numel() <= 2**n_bits - 1, f"{W_hat.unique().numel()} values for {n_bits} bits"
    # END SOLUTION


# %% role="check" id="property-test-check" points="4"
try:
    test_quantizer(good)
except AssertionError as error:
    raise AssertionError(f"good: got a refusal ({error}), want none") from error
for bad in (rounds_down, divides_by_zero, uses_a_bit_more, shrinks):
    try:
        test_quantizer(bad)
    except AssertionError:
        continue
    raise AssertionError(f"{bad.__name__}: got no AssertionError, want one ({bad.__doc__})")

# %% [markdown] lang="en" role="solution"
# **A property is a test that does not know the answer.** An example checks one tensor; a property checks whatever you feed it, so the
# rare tensor (all zeros, one weight, ties) has a chance to be met. The library's own tests do the same with `hypothesis`, which also
# looks for the smallest tensor that breaks a property. And this task is a mutation test: a test counts once it was seen failing.

# %% [markdown] lang="zh" role="solution"
# **性质，就是不知道答案的测试。** 一个例子只检查一个张量；一条性质检查你喂给它的任何张量，所以少见的情形（全零、单个权重、恰在中点）才有机会遇上。本课程库里的测试用 `hypothesis` 做同样的事，它还会替你找出破坏性质的最小张量。这道题本身就是变异测试：只有见过它失败的测试才算数。
