# %% [markdown] lang="en"
# # Exercise 3.1 · Weight pruning
#
# Nine tasks, 30 points, about 100 minutes. They belong to chapter [3.1](../../notebooks/en/03_1_weight_pruning.ipynb). You mend the
# document's listing, design a test that tells right programs from wrong ones, derive how much the document's rule erases for a
# distribution the chapter did not treat, rank a whole network by one threshold, prune in blocks and by a schedule, count bytes, and
# finally cut units out of a network without its noticing.
#
# Run the cells from top to bottom. A check cell says nothing when you are right, and shows both values when you are not. Do not
# use `course_lib.pruning`: it is what you are building.
#
# What is graded are the answer cells alone: put helpers of your own into them. An answer may use the setup cell's imports and
# helpers and your other answers; the cells of pictures and checks are not there when it is graded.

# %% [markdown] lang="zh"
# # 练习 3.1 · 权重剪枝
#
# 共九项任务，30 分，约需 100 分钟，对应第 [3.1](../../notebooks/zh/03_1_weight_pruning.ipynb) 章。你将修好原文的代码，设计一个能分辨程序对错的测试，推导原文的规则对一种正文没有讲过的分布会剪掉多少，
# 用一个阈值给整个网络排名，按块、按日程剪枝，计算字节数，最后把一些单元从网络中切除，而让网络毫无察觉。
#
# 请从上到下依次运行。答对时检查单元格没有任何输出，答错时会同时给出你的值和正确的值。请不要使用 `course_lib.pruning`：它正是你要亲手实现的东西。
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
# ## Task 1 · Mend the listing (3 points)
#
# Below is listing 4.1 of the document, its NumPy turned into torch and nothing else changed. The picture shows what it keeps.

# %% [markdown] lang="zh"
# ## 任务 1 · 修好这段代码（3 分）
#
# 下面是原文的代码 4.1，只把 NumPy 换成了 torch，其余未动。图中没打叉的，就是它留下的权重。


# %% role="given"
def listing(parameters, pruning_threshold=0.5):
    """Listing 4.1, as printed."""
    pruned = {}
    for name, weight in parameters.items():
        absolute_values = weight.flatten().abs()
        mean_value = absolute_values.mean()
        pruned[name] = (weight.flatten() * (absolute_values < pruning_threshold * mean_value)).reshape(weight.shape)
    return pruned


W = torch.tensor([[0.1, 5.0, -3.0, 0.2], [0.02, -0.03, 0.0, 0.04]])
kept = listing({"W": W})["W"] != 0
plots.matrix(W, kept, title="crosses: erased by the listing")
plt.show()

# %% [markdown] lang="en"
# Three faults: the mask is turned round, one mean serves the whole tensor though the formula takes one a row, and biases are
# pruned too. Write what was meant. A row is everything that enters one output unit, so for a convolution (out, in, kh, kw) it is
# the whole filter. Equality keeps. Return new tensors. Constraint: no loop over weights. About 6 lines.
#
# $$ \mathrm{keep}_{ij} = \Bigl[\, |w_{ij}| \ge c \cdot \tfrac1n \sum_{k=1}^{n} |w_{ik}| \,\Bigr], \qquad b_i \text{ untouched} $$
#
# <details><summary>Hint 1</summary>`W.flatten(1)` makes a row of each filter.</details>
# <details><summary>Hint 2</summary>A comparison, an axis (with `keepdim=True`), and a question about `W.ndim`.</details>

# %% [markdown] lang="zh"
# 三处错误：掩码写反了；公式是每行一个平均值，它却整个张量只用一个；连偏置也剪了。请写出它本该有的样子。“一行”是进入同一个输出单元的全部权重，
# 因此对卷积 (out, in, kh, kw) 来说就是整个滤波器。相等时保留。返回新张量。要求：不得对权重写循环。约 6 行。
#
# $$ \mathrm{keep}_{ij} = \Bigl[\, |w_{ij}| \ge c \cdot \tfrac1n \sum_{k=1}^{n} |w_{ik}| \,\Bigr], \qquad b_i \text{ untouched} $$
#
# <details><summary>提示 1</summary>`W.flatten(1)` 把每个滤波器变成一行。</details>
# <details><summary>提示 2</summary>一个比较符号，一个轴（带 `keepdim=True`），还要问一问 `W.ndim`。</details>

# %% role="answer" id="mend-listing"
import torch


def prune_listing(parameters: dict[str, torch.Tensor], c: float = 0.5) -> dict[str, torch.Tensor]:
    """Return new parameters: tensors of two or more dimensions pruned by the row rule, all others as they were."""
    # BEGIN SOLUTION (about 6 lines)
    pruned = {}
    for name, W in parameters.items():
        if W.ndim < 2:
            pruned[name] = W.clone()
            continue
        rows = W.abs().flatten(1)
        keep = rows >= c * rows.mean(dim=1, keepdim=True)
        pruned[name] = W * keep.reshape(W.shape)
    return pruned
    # END SOLUTION


# %% role="check" id="mend-listing-check" points="3"
given = {"weight": torch.tensor([[0.5, 5.0, -3.0, 0.5], [0.5, -0.25, 0.0, 0.25]]), "bias": torch.tensor([0.01, 9.0])}
given["filters"] = torch.tensor([[[[1.0, 2.0, 9.0]], [[4.0, 7.0, 13.0]]], [[[2.0] * 3], [[2.0] * 3]]])  # (out 2, in 2, 1, 3)
before = {name: X.clone() for name, X in given.items()}
got = prune_listing(given, c=1.0)
assert isinstance(got, dict) and set(got) == set(given), f"want a dict with {sorted(given)}, got {got!r}"
expected = {"weight": torch.tensor([[0.0, 5.0, -3.0, 0.0], [0.5, -0.25, 0.0, 0.25]]), "bias": given["bias"]}
expected["filters"] = torch.tensor([[[[0.0, 0.0, 9.0]], [[0.0, 7.0, 13.0]]], [[[2.0] * 3], [[2.0] * 3]]])  # means 6 and 2
for name in given:
    assert torch.equal(got[name], expected[name]), f"{name}:\n got {got[name].tolist()}\nwant {expected[name].tolist()}"
    assert torch.equal(given[name], before[name]), f"the input {name} was changed to {given[name].tolist()}"
got = prune_listing({"W": normal(50, 4000)}, c=0.5)["W"]
zeros, want = float((got == 0).double().mean()), math.erf(0.5 / math.sqrt(math.pi))
assert abs(zeros - want) < 0.006, f"Gaussian weights, c = 0.5: {zeros:.4f} of them are zero, want about {want:.4f}"

# %% [markdown] lang="en" role="solution"
# **What the faults cost.** Turned round, the listing keeps exactly what the network needs least; chapter [4.1](../../notebooks/en/04_1_pruning_in_practice.ipynb) measures the ruin. One
# mean for the tensor silences rows that happen to be small: in the picture, the whole second row counts as small beside the first. And
# a bias has no row of its own to be compared with: there is one for each unit, and pruning it saves next to nothing.

# %% [markdown] lang="zh" role="solution"
# **这三处错误的代价。** 写反之后，留下的恰好是网络最不需要的；第 [4.1](../../notebooks/zh/04_1_pruning_in_practice.ipynb) 章会测出后果。整个张量共用一个平均值，会让数值偏小的行整行归零：
# 图中的第二行与第一行相比，整行都算“小”。至于偏置，它没有自己的一行可比：每个单元只有一个，剪掉它几乎省不下什么。

# %% [markdown] lang="en"
# ## Task 2 · A test of your own design (3 points)
#
# When is a program for task 1 right? Write `test_pruning`: it returns quietly for a right `prune(parameters, c)` and raises an
# `AssertionError` for a wrong one. It may call `prune` as often as it likes and look at all that comes back; of the inside it knows
# nothing. A right `prune` takes a dict of tensors and returns a dict with the same names, in which
#
# $$ \hat w_{ij} = \begin{cases} w_{ij} & |w_{ij}| \ge c \cdot \tfrac1n \sum_{k=1}^{n} |w_{ik}| \\ 0 & \text{otherwise} \end{cases} $$
#
# - for tensors of two or more dimensions; a row of a convolution is the whole filter;
# - tensors of fewer dimensions come back as they were;
# - the tensors that were given are not changed.
#
# A right `prune` may add in any order, and in double precision: where equality matters, choose numbers that are exact in binary (0.5,
# 3.0, not 0.1). Below stand a right program and three wrong ones. The grader sends others, right in other styles and wrong in other ways;
# a test that refuses everything, or nothing, earns no point. Constraint: expected values come from your own hand, not from a program
# that prunes. About 13 lines.
#
# <details><summary>Hint 1</summary>Which input would each wrong `prune` betray itself on? Rows of different size, negative weights, a zero,
# a weight exactly at the threshold, a factor other than 0.5 and 1, a convolution with more than one channel.</details>
# <details><summary>Hint 2</summary>Keep the numbers in lists, make tensors of them, and compare `X.tolist()` with the lists afterwards: the
# returned ones and those you gave.</details>

# %% [markdown] lang="zh"
# ## 任务 2 · 自己设计测试（3 分）
#
# 任务 1 的程序怎样才算对？请写 `test_pruning`：`prune(parameters, c)` 正确时安静地返回，有错时抛出 `AssertionError`。它可以任意多次调用 `prune`，
# 查看返回的一切，但对其内部一无所知。正确的 `prune` 接收一个由张量组成的字典，返回名称相同的字典，其中
#
# $$ \hat w_{ij} = \begin{cases} w_{ij} & |w_{ij}| \ge c \cdot \tfrac1n \sum_{k=1}^{n} |w_{ik}| \\ 0 & \text{otherwise} \end{cases} $$
#
# - 上式适用于二维及以上的张量；卷积的一行是整个滤波器；
# - 维数更少的张量原样返回；
# - 传入的张量不得被改动。
#
# 正确的 `prune` 可以按任意次序求和，也可以用双精度；所以在相等与否要紧的地方，请选二进制能精确表示的数（0.5、3.0，而不是 0.1）。下面有一个对的程序和三个错的。
# 评分时送来的是另一些：对的写法不同，错的错在别处；一律拒绝或一律放行的测试不得分。要求：期望值由你亲手算出，不要来自任何剪枝程序。约 13 行。
#
# <details><summary>提示 1</summary>每一种错误的 `prune` 会在什么输入上露馅？大小悬殊的行、负的权重、零、恰好等于阈值的权重、既非 0.5 也非 1 的系数、不止一个通道的卷积。</details>
# <details><summary>提示 2</summary>把数写在列表里，由它们生成张量，调用之后再拿 `X.tolist()` 与列表比较：返回的要比，传入的也要比。</details>


# %% role="given"
def right(parameters, c=0.5):
    """The formula in loops: slow, and right."""
    new = {name: X.clone() for name, X in parameters.items()}
    for name, W in parameters.items():
        if W.ndim >= 2:
            means = [sum(abs(w) for w in row) / len(row) for row in W.flatten(1).tolist()]
            rows = [[w * (abs(w) >= c * mean) for w in row] for row, mean in zip(W.flatten(1).tolist(), means)]
            new[name] = torch.tensor(rows, dtype=W.dtype).reshape(W.shape)
    return new


def turned_round(parameters, c=0.5):
    """Keeps what should go, and erases what should stay."""
    return {name: X - right({name: X}, c)[name] if X.ndim > 1 else X.clone() for name, X in parameters.items()}


def one_mean(parameters, c=0.5):
    """One mean for the whole tensor, as if it were a single row."""
    return {n: right({n: X[None]}, c)[n][0] if X.ndim > 1 else X.clone() for n, X in parameters.items()}


def biases_too(parameters, c=0.5):
    """Biases are pruned like a row."""
    return {n: right({n: X if X.ndim > 1 else X.reshape(1, -1)}, c)[n].reshape(X.shape) for n, X in parameters.items()}


# %% role="answer" id="own-test"
import torch


def test_pruning(prune) -> None:
    """Return quietly if prune(parameters, c) is right, raise AssertionError if it is not."""
    # BEGIN SOLUTION (about 13 lines)
    pairs = {  # what is given, and what must come back for c = 0.75
        "weight": ([[2.5, -6.5, 3.0, 4.0], [0.0, -1.25, 0.375, 0.375]], [[0.0, -6.5, 3.0, 4.0], [0.0, -1.25, 0.375, 0.375]]),
        "filters": (
            [[[1.0, 3.0], [2.5, -9.5]], [[0.5, 1.25], [1.5, -4.75]]],
            [[[0.0, 3.0], [0.0, -9.5]], [[0.0, 0.0], [1.5, -4.75]]],
        ),
        "bias": ([0.125, 9.0], [0.125, 9.0]),
    }
    given = {name: torch.tensor(x) for name, (x, _) in pairs.items()}
    got = prune(given, 0.75)
    for name, (x, want) in pairs.items():
        assert got[name].tolist() == want, f"{name}: got {got[name].tolist()}, want {want}"
        assert given[name].tolist() == x, f"{name}: the input was changed to {given[name].tolist()}"
    # END SOLUTION


# %% role="check" id="own-test-check" points="3"
try:
    test_pruning(right)
except AssertionError as error:
    raise AssertionError(f"right: got a refusal ({error}), want none") from error
for wrong in (turned_round, one_mean, biases_too):
    try:
        test_pruning(wrong)
    except AssertionError:
        continue
    raise AssertionError(f"{wrong.__name__}: got no AssertionError, want one ({wrong.__doc__})")

# %% [markdown] lang="en" role="solution"
# **One small example, chosen with malice.** In the first row the mean is 4 and the threshold 3. One weight sits exactly on it; one,
# 2.5, would stay with a factor of 0.5; the largest is negative. The second row is small, and holds a zero that counts in its mean. Each
# number is there to convict somebody. A thousand random weights would look more thorough, and yet never meet equality. And a test
# counts once it was seen failing: that is why wrong programs stand beside the right one.

# %% [markdown] lang="zh" role="solution"
# **一个小例子，处处设防。** 第一行的平均值是 4，阈值是 3：一个权重恰好在阈值上；2.5 这一个，若系数是 0.5 就会留下；绝对值最大的那个是负数。
# 第二行数值很小，其中有一个零，它也要计入平均值。每个数都是为揪出某种错误而设的。一千个随机权重看上去更周全，却永远碰不上相等的情形。
# 还有，只有见过它失败的测试才算数，所以对的程序旁边要放上错的。

# %% [markdown] lang="en"
# ## Task 3 · Another distribution: derive, then compute (3 + 3 points)
#
# Weights with the triangular density on $[-a, a]$:
#
# $$ f(w) = \frac1a \Bigl(1 - \frac{|w|}{a}\Bigr) $$
#
# **By hand (3 points).** Show that $\mathbb{E}|w| = a/3$. Derive the share of weights below $c\,\mathbb{E}|w|$ for $0 \le c \le 3$, and
# the factor $c$ that erases a share $p$. Which share goes at $c = 1$, and does it lie between the uniform and the Gaussian one?

# %% [markdown] lang="zh"
# ## 任务 3 · 换一种分布：先推导，再计算（3 + 3 分）
#
# 设权重在 $[-a, a]$ 上服从三角形密度：
#
# $$ f(w) = \frac1a \Bigl(1 - \frac{|w|}{a}\Bigr) $$
#
# **手算（3 分）。** 证明 $\mathbb{E}|w| = a/3$。对 $0 \le c \le 3$，推导绝对值小于 $c\,\mathbb{E}|w|$ 的权重所占的比例，以及剪掉比例 $p$ 所需的系数 $c$。
# $c = 1$ 时剪掉多少？这个比例是否介于均匀分布与高斯分布之间？

# %% [markdown] lang="en" role="answer" id="derive-triangular" points="3"
# The magnitude has density $2f$ on $[0, a]$, so
#
# $$ \mathbb{E}|w| = \frac2a \int_0^a w \Bigl(1 - \frac wa\Bigr) dw = \frac2a \Bigl(\frac{a^2}{2} - \frac{a^2}{3}\Bigr) = \frac a3, \qquad
#    P(|w| < t) = \frac2a \Bigl(t - \frac{t^2}{2a}\Bigr) = 1 - \Bigl(1 - \frac ta\Bigr)^2 $$
#
# With $t = c\,a/3$ the share is $1 - (1 - c/3)^2$, without $a$. Solved for the factor, $c = 3\,(1 - \sqrt{1 - p})$. At $c = 1$ it is
# $5/9 = 55.6\,\%$, between 50 % and 57.5 %: the triangle has more of a peak than the rectangle and less of a tail than the bell.

# %% [markdown] lang="zh" role="answer" id="derive-triangular" points="3"
# 绝对值在 $[0, a]$ 上的密度是 $2f$，于是
#
# $$ \mathbb{E}|w| = \frac2a \int_0^a w \Bigl(1 - \frac wa\Bigr) dw = \frac2a \Bigl(\frac{a^2}{2} - \frac{a^2}{3}\Bigr) = \frac a3, \qquad
#    P(|w| < t) = \frac2a \Bigl(t - \frac{t^2}{2a}\Bigr) = 1 - \Bigl(1 - \frac ta\Bigr)^2 $$
#
# 代入 $t = c\,a/3$，比例为 $1 - (1 - c/3)^2$，与 $a$ 无关。反解得 $c = 3\,(1 - \sqrt{1 - p})$。$c = 1$ 时为
# $5/9 = 55.6\,\%$，在 50 % 与 57.5 % 之间：三角形的峰比矩形尖，尾巴又比钟形短。

# %% [markdown] lang="en"
# **Then compute (3 points).** Both directions, valid for every $c \ge 0$ (also above 3) and every $p$ in $[0, 1]$. About 2 lines.
#
# <details><summary>Hint 1</summary>Beyond the largest weight, at $c = 3$, nothing is left to erase.</details>
# <details><summary>Hint 2</summary>The two functions undo each other: test that before the check does.</details>

# %% [markdown] lang="zh"
# **再计算（3 分）。** 两个方向都要，对任何 $c \ge 0$（包括大于 3）和 $[0, 1]$ 中的任何 $p$ 都成立。约 2 行。
#
# <details><summary>提示 1</summary>$c = 3$ 处就是最大的权重，再往上没有可剪的了。</details>
# <details><summary>提示 2</summary>两个函数互为反函数：在运行检查之前，自己先验一验。</details>

# %% role="answer" id="triangular"
import math


def triangular(c: float | None = None, p: float | None = None) -> float:
    """triangular(c=...) returns the share that goes; triangular(p=...) returns the factor that erases the share p."""
    # BEGIN SOLUTION (about 2 lines)
    if c is not None:
        return 1 - (1 - min(c, 3) / 3) ** 2
    return 3 * (1 - math.sqrt(1 - p))
    # END SOLUTION


# %% role="check" id="triangular-check" points="3"
generator = torch.Generator().manual_seed(0)
w = torch.rand(2, 400_000, generator=generator).double().diff(dim=0)[0]  # a difference of two uniforms is triangular
for c in (0.0, 0.5, 1.0, 2.0, 2.9, 4.0):
    got, want = triangular(c=c), (w.abs() < c * w.abs().mean()).double().mean().item()
    assert abs(got - want) < 0.005, f"c = {c}: got a share of {got:.4f}, 400,000 draws give {want:.4f}"
for p in (0.0, 0.1, 0.5, 0.9, 1.0):
    c = triangular(p=p)
    assert abs(triangular(c=c) - p) < 1e-9, f"p = {p}: got c = {c}, which erases {triangular(c=c)}, want {p}"
assert abs(triangular(p=0.9) - 2.05132) < 1e-4, f"p = 0.9: got c = {triangular(p=0.9)}, want 2.05132"

# %% [markdown] lang="en" role="solution"
# **A factor for 90 %.** Here $c = 2.05$; a Gaussian needs 2.06, a Laplace 2.30, a uniform 1.80. Whoever sets $c = 2$ "for about 90 %"
# gets 86 % on a Laplace layer, 89 % on a triangular one, and loses a uniform one entirely. That is why practice asks for a rank and not for a multiple of the mean.

# %% [markdown] lang="zh" role="solution"
# **剪到 90 % 要多大的系数。** 这里是 $c = 2.05$；高斯分布要 2.06，拉普拉斯 2.30，均匀分布 1.80。若一律取 $c = 2$ 当作“大约 90 %”，
# 拉普拉斯分布的层剪到 86 %，三角形的剪到 89 %，均匀的则全部剪光。所以实践中问的是名次，而不是平均值的倍数。

# %% [markdown] lang="en"
# ## Task 4 · One ranking for the whole network (3 points)
#
# Keep the highest scores of all layers *together*, so that exactly $\mathrm{round}(p \sum_l n_l)$ weights go:
#
# $$ \mathrm{keep}_{l,i} = [\, \mathrm{rank}(S_{l,i}) \ge \mathrm{round}(p \textstyle\sum_l n_l) \,] $$
#
# The count must be exact even when many scores are equal; which of the equals go is up to you. A score may be any number, also a
# negative one. Do not loop over weights. About 6 lines.
#
# <details><summary>Hint 1</summary>A threshold takes all equal scores or none. Positions of a sorted list do not.</details>
# <details><summary>Hint 2</summary>`torch.cat` of the flattened scores, `argsort`, a mask, `split`, `reshape`.</details>

# %% [markdown] lang="zh"
# ## 任务 4 · 整个网络一起排名（3 分）
#
# 把所有层的得分放在*一起*，留下最高的，恰好去掉 $\mathrm{round}(p \sum_l n_l)$ 个权重：
#
# $$ \mathrm{keep}_{l,i} = [\, \mathrm{rank}(S_{l,i}) \ge \mathrm{round}(p \textstyle\sum_l n_l) \,] $$
#
# 即使有许多得分相等，数量也必须精确；得分相等的，去掉哪些由你决定。得分可以是任何数，包括负数。不得对权重写循环。约 6 行。
#
# <details><summary>提示 1</summary>用阈值，相等的得分要么全去、要么全留；用排序后的位置就不会。</details>
# <details><summary>提示 2</summary>把展平的得分用 `torch.cat` 接起来，再 `argsort`、做掩码、`split`、`reshape`。</details>

# %% role="answer" id="global-masks"
import torch


def masks_for_all(scores: dict[str, torch.Tensor], sparsity: float) -> dict[str, torch.Tensor]:
    """Return boolean masks of the scores' shapes, True = stays."""
    # BEGIN SOLUTION (about 6 lines)
    together = torch.cat([S.flatten() for S in scores.values()])
    mask = torch.ones(together.numel(), dtype=torch.bool)
    mask[together.argsort()[: round(sparsity * together.numel())]] = False
    parts = mask.split([S.numel() for S in scores.values()])
    return {name: part.reshape(S.shape) for (name, S), part in zip(scores.items(), parts)}
    # END SOLUTION


# %% role="check" id="global-masks-check" points="3"
scores = {"small": torch.tensor([[0.1, 0.2, 3.0]]), "large": torch.tensor([[1.0, 5.0], [4.0, 6.0]])}
got = {name: mask.tolist() for name, mask in masks_for_all(scores, 3 / 7).items()}
want = {"small": [[False, False, True]], "large": [[False, True], [True, True]]}
assert got == want, f"seven scores, three go:\n got {got}\nwant {want}"
scores = {"a": torch.ones(30, 7), "b": torch.zeros(5, 2, 4), "c": normal(40).abs()}
for p in (0.0, 0.3, 0.9, 1.0):
    masks, n = masks_for_all(scores, p), 290
    gone = sum(int((~mask).sum()) for mask in masks.values())
    assert gone == round(p * n), f"p = {p}, many equal scores: {gone} of {n} go, want {round(p * n)}"
    assert all(masks[name].shape == S.shape for name, S in scores.items()), f"p = {p}: a mask has another shape than its score"
    kept = [S[masks[name]] for name, S in scores.items()]
    lost = [S[~masks[name]] for name, S in scores.items()]
    if 0 < gone < n:
        low, high = float(torch.cat(kept).min()), float(torch.cat(lost).max())
        assert low >= high, f"p = {p}: a score of {high} goes while one of {low} stays"

# %% [markdown] lang="en" role="solution"
# **Look at the shares.** One ranking gives each layer the sparsity its scores ask for. That is its strength, and its danger: a layer
# whose weights are small on the whole, for no fault of its own, can lose everything, and a chain is cut where one link is.

# %% [markdown] lang="zh" role="solution"
# **要看各层的比例。** 一起排名，每层的稀疏度由它的得分决定。这是长处，也是危险：某一层也许没有什么不好，只是权重整体偏小，就可能被剪光；链条只要断一环，整条就断了。

# %% [markdown] lang="en"
# ## Task 5 · N:M (3 points)
#
# In each block of $m$ consecutive inputs keep the $n$ highest scores:
#
# $$ \mathrm{keep}_{i,\,bm+j} = [\, \mathrm{rank}(S_{i,\,bm+j}) \ge m - n \,] $$
#
# Exactly $n$ stay in each block, also among equal scores, and scores may be negative. Refuse a number of inputs that $m$ does not
# divide, with a `ValueError`. Constraint: no loop. About 5 lines.
#
# <details><summary>Hint 1</summary>`score.reshape(out, -1, m)` puts each block in a row of its own.</details>
# <details><summary>Hint 2</summary>`topk` gives positions, `scatter` writes `True` at positions.</details>

# %% [markdown] lang="zh"
# ## 任务 5 · N:M（3 分）
#
# 每 $m$ 个相邻的输入为一块，块内留下得分最高的 $n$ 个：
#
# $$ \mathrm{keep}_{i,\,bm+j} = [\, \mathrm{rank}(S_{i,\,bm+j}) \ge m - n \,] $$
#
# 每块恰好留下 $n$ 个，得分相等时也一样；得分可以为负。输入个数不能被 $m$ 整除时，用 `ValueError` 拒绝。要求：不写循环。约 5 行。
#
# <details><summary>提示 1</summary>`score.reshape(out, -1, m)` 让每一块自成一行。</details>
# <details><summary>提示 2</summary>`topk` 给出位置，`scatter` 在这些位置写入 `True`。</details>

# %% role="answer" id="n-m"
import torch


def keep_n_of_m(score: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """Return the boolean mask (out, in), True = stays, of scores (out, in)."""
    # BEGIN SOLUTION (about 5 lines)
    if score.shape[1] % m:
        raise ValueError(f"{score.shape[1]} inputs do not divide into blocks of {m}")
    blocks = score.reshape(score.shape[0], -1, m)
    best = blocks.topk(n, dim=-1).indices
    return torch.zeros_like(blocks, dtype=torch.bool).scatter(-1, best, True).reshape(score.shape)
    # END SOLUTION


# %% role="check" id="n-m-check" points="3"
score = torch.tensor([[1.0, 2.0, 3.0, 4.0, 8.0, 0.0, 5.0, 7.0], [9.0, 1.0, 0.0, 2.0, 3.0, 6.0, 4.0, 1.0]])
for (n, m), want in {
    (2, 4): [[0, 0, 1, 1, 1, 0, 0, 1], [1, 0, 0, 1, 0, 1, 1, 0]],
    (1, 2): [[0, 1, 0, 1, 1, 0, 0, 1], [1, 0, 0, 1, 0, 1, 1, 0]],
    (3, 4): [[0, 1, 1, 1, 1, 0, 1, 1], [1, 1, 0, 1, 1, 1, 1, 0]],
    (1, 8): [[0, 0, 0, 0, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]],
}.items():
    mask = keep_n_of_m(score, n, m)
    assert mask.dtype == torch.bool, f"{n}:{m}: got a mask of {mask.dtype}, want torch.bool"
    assert mask.int().tolist() == want, f"{n}:{m}\n got {mask.int().tolist()}\nwant {want}"
counts = keep_n_of_m(torch.ones(3, 12), 2, 4).reshape(3, 3, 4).sum(dim=-1)
assert bool((counts == 2).all()), f"equal scores, 2:4: kept {counts.tolist()} in each block, want 2 everywhere"
try:
    refused = keep_n_of_m(torch.ones(2, 6), 2, 4)
except ValueError:
    refused = None
assert refused is None, f"6 inputs in blocks of 4: got a mask of shape {tuple(refused.shape)}, want a ValueError"

# %% [markdown] lang="en" role="solution"
# **What a block costs and buys.** Of the six ways to place two among four, the mask takes the best, so no other 2:4 mask keeps more.
# The free mask of 50 % keeps more still, and the gap is the price. What is bought: each block does the same amount of work, and
# 4 bits tell where its two weights sit.

# %% [markdown] lang="zh" role="solution"
# **一块的代价与收益。** 四个里放两个共有六种放法，掩码取最好的一种，所以没有别的 2:4 掩码留得更多。50 % 的自由掩码还能留得更多，差额就是代价。
# 收益是：每块的工作量都一样，而且 4 比特就能说明两个权重的位置。

# %% [markdown] lang="en"
# ## Task 6 · The cubic schedule (2 points)
#
# $$ p_t = p_f + (p_i - p_f) \Bigl(1 - \frac{t - t_0}{n}\Bigr)^3 \quad\text{for } t_0 \le t \le t_0 + n $$
#
# with $p_i$ before and $p_f$ after. About 2 lines.
#
# <details><summary>Hint 1</summary>The fraction must stay in [0, 1]: what happens to a cube of $1 - 2$?</details>
# <details><summary>Hint 2</summary>`min(max(..., 0), 1)`.</details>

# %% [markdown] lang="zh"
# ## 任务 6 · 三次日程（2 分）
#
# $$ p_t = p_f + (p_i - p_f) \Bigl(1 - \frac{t - t_0}{n}\Bigr)^3 \quad\text{for } t_0 \le t \le t_0 + n $$
#
# 在此之前为 $p_i$，之后为 $p_f$。约 2 行。
#
# <details><summary>提示 1</summary>那个分数必须留在 [0, 1] 之内：$1 - 2$ 的立方会怎样？</details>
# <details><summary>提示 2</summary>`min(max(..., 0), 1)`。</details>


# %% role="answer" id="cubic"
def sparsity_due(step: int, n_steps: int, final: float, initial: float = 0.0, start: int = 0) -> float:
    """Return the sparsity due at a step: `initial` before `start`, `final` from `start + n_steps` on."""
    # BEGIN SOLUTION (about 2 lines)
    u = min(max((step - start) / n_steps, 0.0), 1.0)
    return final + (initial - final) * (1 - u) ** 3
    # END SOLUTION


# %% role="check" id="cubic-check" points="2"
for arguments, want in {
    (0, 10, 0.8): 0.0,
    (5, 10, 0.8): 0.7,
    (10, 10, 0.8): 0.8,
    (25, 10, 0.8): 0.8,
    (3, 10, 0.9, 0.1, 5): 0.1,
    (10, 10, 0.9, 0.1, 5): 0.8,
}.items():
    got = sparsity_due(*arguments)
    assert abs(got - want) < 1e-9, f"sparsity_due{arguments}: got {got}, want {want}"
path = [sparsity_due(t, 50, 0.95, 0.2, 10) for t in range(80)]
assert path == sorted(path), f"the sparsity falls somewhere: {path}"

# %% [markdown] lang="en" role="solution"
# **Why a cube.** The slope is three times the average at the start, when most weights are idle, and zero at the end, when each removal
# hurts. The exponent is a choice, not a law; chapter 3.1 shows that with few steps even pruning at once can win.

# %% [markdown] lang="zh" role="solution"
# **为什么是三次方。** 开始时斜率是平均值的三倍，那时大多数权重都闲着；最后斜率为零，那时每剪一个都有损失。指数是一种选择，不是定律；第 3.1 章表明，步数少的时候，一次剪完也可能胜出。

# %% [markdown] lang="en"
# ## Task 7 · From which sparsity on? (4 points)
#
# A matrix of $r$ rows and $k$ columns, $n = rk$ weights, $m$ of them not zero, each value in 4 bytes. Three files:
#
# $$ \text{dense: } 4n, \qquad \text{bitmask: } \lceil n/8 \rceil + 4m, \qquad \text{CSR: } 4(r+1) + 4m + 4m $$
#
# (CSR as scientific libraries store it: 4 bytes for each row's start, 4 for each column, 4 for each value.) Return the sizes, and the
# smallest number of zeros with which CSR is *strictly* smaller than dense; `None` if there is none. About 8 lines.
#
# <details><summary>Hint 1</summary>With $z$ zeros, $m = n - z$. Solve the inequality for $z$; it must be a whole number.</details>
# <details><summary>Hint 2</summary>$8(n - z) + 4(r + 1) < 4n$. Strictly: what if both sides can be equal? A matrix of one column has
# more row starts than weights.</details>

# %% [markdown] lang="zh"
# ## 任务 7 · 稀疏度到多少才划算？（4 分）
#
# 矩阵有 $r$ 行 $k$ 列，共 $n = rk$ 个权重，其中 $m$ 个不为零，每个值占 4 字节。三种文件：
#
# $$ \text{dense: } 4n, \qquad \text{bitmask: } \lceil n/8 \rceil + 4m, \qquad \text{CSR: } 4(r+1) + 4m + 4m $$
#
# （依次是稠密、位掩码和 CSR。CSR 按科学计算库的存法：每行起点 4 字节，每个列号 4 字节，每个值 4 字节。）请返回各自的大小，以及使 CSR *严格*小于稠密所需的最少零的个数；若不存在则为 `None`。约 8 行。
#
# <details><summary>提示 1</summary>有 $z$ 个零时 $m = n - z$。对 $z$ 解不等式，它必须是整数。</details>
# <details><summary>提示 2</summary>$8(n - z) + 4(r + 1) < 4n$。严格小于：两边可能相等时怎么办？只有一列的矩阵，行起点比权重还多。</details>


# %% role="answer" id="bytes"
def file_sizes(rows: int, columns: int, n_nonzero: int) -> dict[str, int]:
    """Return {"dense": ..., "bitmask": ..., "csr": ...} in bytes."""
    # BEGIN SOLUTION (about 3 lines)
    n = rows * columns
    csr = 4 * (rows + 1) + 8 * n_nonzero
    return {"dense": 4 * n, "bitmask": -(-n // 8) + 4 * n_nonzero, "csr": csr}
    # END SOLUTION


# %% role="answer" id="break-even"
def csr_break_even(rows: int, columns: int) -> int | None:
    """Return the smallest number of zeros with which CSR is strictly smaller than dense, or None."""
    # BEGIN SOLUTION (about 4 lines)
    n = rows * columns
    zeros = (n + rows + 1) // 2 + 1  # 8 (n - z) + 4 (rows + 1) < 4 n  <=>  2 z > n + rows + 1
    return zeros if zeros <= n else None
    # END SOLUTION


# %% role="check" id="bytes-check" points="2"
for arguments, want in {
    (2, 8, 5): {"dense": 64, "bitmask": 22, "csr": 52},
    (3, 3, 0): {"dense": 36, "bitmask": 2, "csr": 16},
    (300, 784, 23_520): {"dense": 940_800, "bitmask": 123_480, "csr": 189_364},
}.items():
    got = file_sizes(*arguments)
    assert got == want, f"file_sizes{arguments}:\n got {got}\nwant {want}"

# %% role="check" id="break-even-check" points="2"
for arguments, want in {(2, 8): 10, (3, 3): 7, (3, 4): 9, (1, 3): 3, (300, 784): 117_751, (10, 1): None, (1, 1): None}.items():
    got = csr_break_even(*arguments)
    assert got == want, f"csr_break_even{arguments}: got {got}, want {want}"
rows, columns = 7, 11
slow = next(z for z in range(78) if 4 * (rows + 1) + 8 * (77 - z) < 4 * 77)  # by trying all of them
assert csr_break_even(7, 11) == slow, f"7 x 11: got {csr_break_even(7, 11)}, trying all numbers of zeros gives {slow}"

# %% role="given"
zeros = torch.linspace(0, 1, 101)
lines = {name: [] for name in ("dense", "bitmask", "csr")}
for p in zeros.tolist():
    for name, size in file_sizes(300, 784, round((1 - p) * 235_200)).items():
        lines[name].append(size / 1000)
plots.curves({k: (100 * zeros, v) for k, v in lines.items()}, "sparsity (%)", "file (kB)", "300 x 784, columns in 4 bytes")
plt.show()

# %% [markdown] lang="en" role="solution"
# **A half, and a bit.** The bit is $(r + 1) / 2n$, the row starts. The bitmask pays from $1/32$ on, and CSR overtakes it only where
# $8d = 1/8 + 4d$, at 97 % zeros. Chapter 3.1 finds other numbers because the course's files keep columns in 2 bytes: a
# break-even belongs to a format, and a claim that does not name the format says nothing.

# %% [markdown] lang="zh" role="solution"
# **一半多一点。** 多出的那点是 $(r + 1) / 2n$，来自行起点。位掩码从 $1/32$ 起就划算，CSR 要到 $8d = 1/8 + 4d$，即 97 % 为零时才超过它。
# 第 3.1 章得到的数字不同，因为课程的文件用 2 字节存列号：盈亏点属于某一种格式，不说明格式的结论等于没说。

# %% [markdown] lang="en"
# ## Task 8 · Cut units out, and give the constant back (3 points)
#
# Two layers, $h = \mathrm{relu}(W_1 x + b_1)$ and $y = W_2 h + b_2$. Remove the hidden units outside the set $K$. What they contributed
# *on average* need not be lost: it goes into the bias.
#
# $$ W_1 \leftarrow (W_1)_{K,:}, \quad b_1 \leftarrow (b_1)_K, \quad W_2 \leftarrow (W_2)_{:,K}, \quad
#    b_2 \leftarrow b_2 + \sum_{i \notin K} (W_2)_{:,i}\, \mathbb{E}[h_i] $$
#
# `X` holds inputs over which to average; without it (`None`) the constant is lost. Return new tensors. About 6 lines.
#
# <details><summary>Hint 1</summary>A unit is a row of one matrix and a column of the other.</details>
# <details><summary>Hint 2</summary>`~keep` selects what goes. Average the hidden values *after* the ReLU, over the batch.</details>

# %% [markdown] lang="zh"
# ## 任务 8 · 切除单元，并把常数还回去（3 分）
#
# 有两层：$h = \mathrm{relu}(W_1 x + b_1)$ 和 $y = W_2 h + b_2$。把集合 $K$ 以外的隐藏单元切除。它们*平均*贡献的那部分不必丢掉，可以并入偏置：
#
# $$ W_1 \leftarrow (W_1)_{K,:}, \quad b_1 \leftarrow (b_1)_K, \quad W_2 \leftarrow (W_2)_{:,K}, \quad
#    b_2 \leftarrow b_2 + \sum_{i \notin K} (W_2)_{:,i}\, \mathbb{E}[h_i] $$
#
# `X` 是用来求平均的输入；若没有（`None`），常数就丢了。返回新张量。约 6 行。
#
# <details><summary>提示 1</summary>一个单元，是一个矩阵的一行，又是另一个矩阵的一列。</details>
# <details><summary>提示 2</summary>`~keep` 选出要切除的。隐藏值要在 ReLU *之后*、对整批求平均。</details>

# %% role="answer" id="remove-units"
import torch


def remove_units(
    W1: torch.Tensor, b1: torch.Tensor, W2: torch.Tensor, b2: torch.Tensor, keep: torch.Tensor, X: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the smaller W1, b1, W2, b2; keep is boolean over the hidden units, X is (B, in) or None."""
    # BEGIN SOLUTION (about 6 lines)
    bias = b2.clone()
    if X is not None:
        H = torch.relu(X @ W1.T + b1)
        bias += W2[:, ~keep] @ H[:, ~keep].mean(dim=0)
    return W1[keep].clone(), b1[keep].clone(), W2[:, keep].clone(), bias
    # END SOLUTION


# %% role="check" id="remove-units-check" points="3"
W1, b1, W2, b2 = normal(6, 5), normal(6, seed=1), normal(3, 6, seed=2), normal(3, seed=3)
X, keep = normal(200, 5, seed=4), torch.tensor([True, False, True, True, False, True])
before = [T.clone() for T in (W1, b1, W2, b2)]


def output(W1, b1, W2, b2):
    return torch.relu(X @ W1.T + b1) @ W2.T + b2


small = remove_units(W1, b1, W2, b2, keep)
shapes = [tuple(T.shape) for T in small]
assert shapes == [(4, 5), (4,), (3, 4), (3,)], f"shapes: got {shapes}, want [(4, 5), (4,), (3, 4), (3,)]"
silent = output(W1, b1, W2 * keep, b2)
worst = float((output(*small) - silent).abs().max())
assert worst < 1e-4, f"without X: the outputs differ from those with silent units by {worst}, want 0"
small = remove_units(W1, b1, W2, b2, keep, X)
error = (output(*small) - output(W1, b1, W2, b2)).mean(dim=0).abs().max().item()
assert error < 1e-4, f"with X: the mean output is off by {error}, want 0 (the constant is given back)"
constant = W1.clone()
constant[~keep] = 0  # units 1 and 4 then always say relu(b)
small = remove_units(constant, b1.abs(), W2, b2, keep, X)
worst = float((output(*small) - output(constant, b1.abs(), W2, b2)).abs().max())
assert worst < 1e-4, f"units that always say the same: outputs differ by {worst}, want 0"
assert all(torch.equal(a, b) for a, b in zip((W1, b1, W2, b2), before)), "an input tensor was changed"

# %% [markdown] lang="en" role="solution"
# **Mean and spread.** After the correction the error of output $o$ is $\sum_{i \notin K} w_{oi}\,(h_i - \mathbb{E}h_i)$: only the *spread*
# of the removed units is lost. A unit that always says the same can go for free, however loud it is. That suggests the
# score of a unit: its spread times the norm of the column that listens to it, which did so well in chapter 3.1.

# %% [markdown] lang="zh" role="solution"
# **平均与波动。** 修正之后，输出 $o$ 的误差是 $\sum_{i \notin K} w_{oi}\,(h_i - \mathbb{E}h_i)$：丢掉的只是被切除单元的*波动*。一个输出恒定不变的单元，数值再大，去掉也毫无损失。
# 由此可得单元的得分：它的波动，乘以与它相连的那一列的范数。这个得分在第 3.1 章表现出色。

# %% [markdown] lang="en"
# ## Task 9 · A claim to judge (3 points, marked by hand)
#
# A colleague writes: "We set 90 % of the weights to zero with a global magnitude threshold. The network is ten times smaller and ten
# times faster, and as accurate as before: 97.9 % instead of 98.1 % on 1,000 test images." Judge the three claims, one or two
# sentences each, and say what should have been measured instead.

# %% [markdown] lang="zh"
# ## 任务 9 · 评判一个说法（3 分，人工评分）
#
# 一位同事写道：“我们用全局的绝对值阈值把 90 % 的权重设为零。网络只有原来的十分之一大，速度是原来的十倍，准确率不变：在 1,000 张测试图像上是 97.9 %，原来是 98.1 %。”
# 请逐一评判这三个说法，每个写一两句话，并说明本该测量什么。

# %% [markdown] lang="en" role="answer" id="judge-claim" points="3"
# *Smaller* (1 point): zeros in a dense file take 4 bytes like any other number; with positions stored, a bitmask file is about 7.6
# times smaller, not ten. Quote the length of a file from which the network was rebuilt. *Faster* (1 point): a dense kernel multiplies
# by zero as fast as by anything; expect a ratio of 1. Time it against the dense network, in one run, with batch size, threads and
# an interval; with CSR or structured zeros a gain may appear. *As accurate* (1 point): 979 and 981 of 1,000 cannot be told apart, but
# the 95 % interval of each is about a point either way, so a loss of a point is not excluded either. More test images, several
# seeds, and the threshold chosen on validation data.

# %% [markdown] lang="zh" role="answer" id="judge-claim" points="3"
# *更小*（1 分）：稠密文件里的零照样占 4 字节；把位置也存上，位掩码文件的压缩比约为 7.6，而不是 10。应报告能重建网络的文件有多长。
# *更快*（1 分）：稠密算子乘零和乘别的数一样慢，比值应当是 1。应在同一次运行中与稠密网络对比计时，写明批大小、线程数和区间；换成 CSR 或结构化的零，才可能有收益。
# *同样准确*（1 分）：1,000 张里对 979 张和 981 张分不出高下，但各自的 95 % 区间约为上下一个百分点，所以也不能排除下降了一个百分点。应使用更多测试图像、多个随机种子，并在验证集上选择阈值。
