# %% [markdown] lang="en"
# # 2.2 · Training from the formulas
#
# A network is trained by one line, repeated thousands of times: *weights minus something times gradient*. This chapter is about
# the something.

# %% [markdown] lang="zh"
# # 2.2 · 从公式出发的训练
#
# 训练网络靠的只是一行式子，重复成千上万次：*权重减去某个量乘以梯度*。本章讲的就是“某个量”该怎么取。

# %% [markdown] lang="en"
# **You will be able to**
#
# - predict at which learning rate gradient descent diverges and how many steps it needs, before you run it;
# - write SGD, momentum, Nesterov, Adam and AdamW from their formulas, and show that yours equal those of `torch.optim`;
# - say what warm-up, clipping, accumulation, checkpoints and 16-bit training each do, with a measurement for each;
# - compare two ways of training by the protocol of chapter [2.1](02_1_core_concepts.ipynb): equal budgets, three seeds, a verdict;
# - answer why the document ties *making a model small* to *training* it.
#
# **Takes** about 75 minutes to study, half a minute to run on one core. **Memory** 1 GB. **Needs** chapter
# [2.1](02_1_core_concepts.ipynb), derivatives, and the MNIST digits (fetched once, 20 MB).

# %% [markdown] lang="zh"
# **学完本章，你能够**
#
# - 在运行之前就算出：学习率多大时梯度下降会发散，收敛需要多少步；
# - 按公式写出 SGD、动量、Nesterov、Adam 和 AdamW，并证明你写的与 `torch.optim` 完全一致；
# - 说清预热、梯度截断、梯度累积、检查点和 16 位训练各起什么作用，每一项都有测量为证；
# - 按第 [2.1](02_1_core_concepts.ipynb) 章的规程比较两种训练方法：预算相同、三个随机种子、一个结论；
# - 回答原文为什么说*把模型变小*与*训练*密切相关。
#
# **用时** 学习约 75 分钟，单核运行约半分钟。**内存** 1 GB。**预备** 第 [2.1](02_1_core_concepts.ipynb) 章、导数，
# 以及 MNIST 数据（只下载一次，20 MB）。

# %%
import copy
import inspect
import math
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from course_lib import plots

plots.use_course_style()
torch.set_num_threads(1)

# %%
RATIO = 20.0  # how much steeper the valley is one way than the other
TOLERANCE = 1e-3  # "arrived": a thousandth of the distance at the start
N_TRAIN, N_EPOCHS, BATCH = 4_000, 2, 128  # the budget of section 10: the same for every optimizer
SEEDS = (0, 1, 2)
SPARSITY = 0.9  # of section 11

# %% [markdown] lang="en"
# ## 1 · One word, two jobs
#
# Section 2 of the document says: *model optimization is closely tied to model training, because optimization algorithms are
# usually applied during training.* The sentence uses one word for two jobs. An **optimizer** (this chapter) looks for weights with
# a small loss. **Model optimization** (the rest of the course) looks for a model with few bytes and operations:
#
# $$ \min_\theta L(\theta) \qquad\text{and}\qquad \min_\theta L(\theta) \;\;\text{subject to}\;\; \mathrm{size}(\theta) \le \text{budget} $$
#
# The second problem is the first with a fence around it. Keep that picture; section 11 measures what it is worth.

# %% [markdown] lang="zh"
# ## 1 · 一个词，两件事
#
# 原文第 2 节说：“模型优化与模型训练密切相关，因为优化算法通常在训练过程中被应用。”这句话里，同一个词指了两件事。
# **优化器**（本章）寻找损失小的权重；**模型优化**（本课程其余部分）寻找字节数和运算量小的模型：
#
# $$ \min_\theta L(\theta) \qquad\text{and}\qquad \min_\theta L(\theta) \;\;\text{subject to}\;\; \mathrm{size}(\theta) \le \text{budget} $$
#
# 第二个问题就是给第一个问题围上一道栅栏。请记住这幅图景，第 11 节会测出它的价值。

# %% [markdown] lang="en"
# ## 2 · Gradient descent in a valley, by hand
#
# The smallest problem that shows everything has two weights and two **curvatures** $a_1, a_2$. Its gradient is $a_j w_j$, so a step
# of learning rate $\eta$ multiplies each weight by a constant:
#
# $$ L(w) = \tfrac12 \sum_j a_j w_j^2, \qquad w_j \leftarrow w_j - \eta\, a_j w_j = (1 - \eta a_j)\, w_j $$
#
# **Predict before you run on:** with $a_1 = 1$ and $a_2 = 20$, at which $\eta$ does the walk stop converging? Which of the two
# weights is the one that explodes? And is the best $\eta$ just below that limit?
#
# <details><summary>Hint</summary>A factor works while it lies between $-1$ and $1$. Write down both factors. The slower of the
# two decides; draw $|1 - \eta a_1|$ and $|1 - \eta a_2|$ over $\eta$ and look where they cross.</details>

# %% [markdown] lang="zh"
# ## 2 · 手算山谷里的梯度下降
#
# 能说明一切的最小问题只有两个权重和两个**曲率** $a_1, a_2$。梯度是 $a_j w_j$，所以学习率为 $\eta$ 的一步只是把每个权重乘以一个常数：
#
# $$ L(w) = \tfrac12 \sum_j a_j w_j^2, \qquad w_j \leftarrow w_j - \eta\, a_j w_j = (1 - \eta a_j)\, w_j $$
#
# **先猜再运行：** 取 $a_1 = 1$、$a_2 = 20$，$\eta$ 到多大时不再收敛？两个权重中爆炸的是哪一个？最好的 $\eta$ 是不是比这个极限小一点点？
#
# <details><summary>提示</summary>乘数落在 $-1$ 与 $1$ 之间才行。把两个乘数都写出来，慢的那个说了算；
# 把 $|1 - \eta a_1|$ 和 $|1 - \eta a_2|$ 随 $\eta$ 的变化画出来，看它们在哪里相交。</details>

# %%
def descend(lr: float, n_steps: int) -> float:
    """Gradient descent, literally; returns the distance to the bottom."""
    a, w = [1.0, RATIO], [-4.0, 1.0]
    for _ in range(n_steps):
        for j in range(2):
            w[j] = w[j] - lr * a[j] * w[j]
    return math.hypot(*w)


for lr in (0.02, 0.05, 2 / 21, 0.0999, 0.1001):
    predicted = max(abs(1 - lr), abs(1 - lr * RATIO))
    measured = (descend(lr, 800) / descend(lr, 600)) ** (1 / 200)  # mean factor over 200 late steps
    grows = "grows" if measured > 1 else ""
    print(f"lr {lr:.4f}  factor per step: predicted {predicted:.4f}  measured {measured:.4f}  {grows}")
    assert abs(measured - predicted) < 1e-3  # late enough that only the slower direction is left

# %% [markdown] lang="en"
# Convergence ends at $\eta = 2/a_{\max} = 0.1$, in the *steep* direction, while the *flat* one is still crawling. The best rate lies
# where both factors are equal:
#
# $$ \eta^* = \frac{2}{a_{\min} + a_{\max}}, \qquad \rho^* = \frac{\kappa - 1}{\kappa + 1}, \qquad \kappa = \frac{a_{\max}}{a_{\min}},
#    \qquad n = \frac{\ln \text{tolerance}}{\ln \rho} $$
#
# $\kappa$ is the **condition number**: the narrower the valley, the more steps, and for large $\kappa$ in proportion to it. Below,
# theory draws the curve and the library's own `SGD` the dots.

# %% [markdown] lang="zh"
# 学习率一到 $\eta = 2/a_{\max} = 0.1$ 就不再收敛：先出事的是*陡*的方向，而*平*的方向还在慢慢爬。两个乘数相等的地方就是最好的学习率：
#
# $$ \eta^* = \frac{2}{a_{\min} + a_{\max}}, \qquad \rho^* = \frac{\kappa - 1}{\kappa + 1}, \qquad \kappa = \frac{a_{\max}}{a_{\min}},
#    \qquad n = \frac{\ln \text{tolerance}}{\ln \rho} $$
#
# $\kappa$ 叫**条件数**：山谷越窄，步数越多；$\kappa$ 很大时，步数与它成正比。下图中曲线由理论画出，圆点由库里的 `SGD` 实际走出。

# %%
from course_lib.optimizers import SGD, contraction
from course_lib.widgets.training import valley_values

rates = [0.004 * k for k in range(1, 24)] + [0.094, 0.096, 0.097, 0.098, 0.099]
walks = [valley_values(lr, ratio=RATIO, n_steps=2_000, tolerance=TOLERANCE) for lr in rates]
ax = plots.curves(
    {name: (rates, [getattr(w, f"{name}_steps") for w in walks]) for name in ("predicted", "measured")},
    xlabel="learning rate", ylabel="steps to a thousandth", title="valley with curvatures 1 and 20", log_y=True,
)  # fmt: skip
ax.lines[1].set(linestyle="none", markevery=1)
ax.axvline(2 / 21, color="0.5", linestyle=":")
assert all(w.measured_steps <= w.predicted_steps + 1 for w in walks)  # no direction shrinks more slowly than rho
assert all(w.measured_steps >= 0.98 * w.predicted_steps for w in walks[:24])  # left of the best rate
ten_times_too_small = valley_values(0.2 / 21, ratio=RATIO, n_steps=2_000)
assert 9 < ten_times_too_small.measured_steps / min(w.measured_steps for w in walks) < 11

# %% [markdown] lang="en"
# The dots sit on the curve: from a rate ten times too small to the best one (dotted line) the steps fall tenfold. Right of it the
# steep direction decides, and there is little room before the cliff at 0.1. (There the dots lie a little below the curve: our start
# happens to lie mostly in the flat direction.) That is why people sweep the rate on a logarithmic grid and stay left of the cliff.

# %% [markdown] lang="zh"
# 圆点落在曲线上：学习率从偏小十倍增大到最佳值（点线处），步数降到约十分之一；再往右由陡的方向说了算，没走多远就是 0.1 处的悬崖。
# （那里圆点略低于曲线，因为我们的起点恰好大部分落在平的方向上。）所以大家总是在对数网格上搜索学习率，并且宁可停在悬崖左边。

# %% [markdown] lang="en"
# ## 3 · Momentum: remember the direction
#
# Keep a running sum $V$ of the gradients and walk along it. Across the valley the signs alternate and cancel; along it they add up.
# $\mu$ says how slowly the memory fades:
#
# $$ V \leftarrow \mu V + G, \qquad W \leftarrow W - \eta V \qquad\text{(Polyak)}, \qquad
#    W \leftarrow W - \eta\,(G + \mu V) \qquad\text{(Nesterov)} $$
#
# On the parabola one step is a $2 \times 2$ matrix applied to $(w, V)$, and its largest eigenvalue $\rho$ is the factor per step. The
# best that momentum can reach replaces $\kappa$ by $\sqrt\kappa$:
#
# $$ \eta^* = \Bigl(\frac{2}{\sqrt{a_{\min}} + \sqrt{a_{\max}}}\Bigr)^2, \qquad
#    \rho^* = \sqrt{\mu^*} = \frac{\sqrt\kappa - 1}{\sqrt\kappa + 1} $$
#
# **Predict:** gradient descent at its best needs 69 steps for $\kappa = 20$. How many does momentum need?

# %% [markdown] lang="zh"
# ## 3 · 动量：记住来时的方向
#
# 保留梯度的累加量 $V$，沿着它走。横穿山谷的分量正负交替、互相抵消，顺着山谷的分量则不断累加。$\mu$ 决定记忆消退得多慢：
#
# $$ V \leftarrow \mu V + G, \qquad W \leftarrow W - \eta V \qquad\text{(Polyak)}, \qquad
#    W \leftarrow W - \eta\,(G + \mu V) \qquad\text{(Nesterov)} $$
#
# 在抛物线上，一步就是一个 $2 \times 2$ 矩阵作用于 $(w, V)$，它的最大特征值 $\rho$ 就是每步的收缩率。动量所能达到的最好结果，
# 是把 $\kappa$ 换成 $\sqrt\kappa$：
#
# $$ \eta^* = \Bigl(\frac{2}{\sqrt{a_{\min}} + \sqrt{a_{\max}}}\Bigr)^2, \qquad
#    \rho^* = \sqrt{\mu^*} = \frac{\sqrt\kappa - 1}{\sqrt\kappa + 1} $$
#
# **先猜：** $\kappa = 20$ 时，梯度下降在最佳状态下要走 69 步。动量要走多少步？

# %%
root = math.sqrt(RATIO)
best_lr, best_momentum = (2 / (1 + root)) ** 2, ((root - 1) / (root + 1)) ** 2
plain = valley_values(2 / (1 + RATIO), ratio=RATIO)
heavy = valley_values(best_lr, best_momentum, ratio=RATIO)
for name, walk in (("gradient descent", plain), ("momentum", heavy)):
    guess, steps_taken = walk.predicted_steps, walk.measured_steps
    print(f"{name:16} factor {walk.rho:.3f}  steps: predicted {guess:.1f}  measured {steps_taken}")
assert abs(heavy.rho - (root - 1) / (root + 1)) < 1e-6 and round(plain.predicted_steps) == 69
assert 3 * heavy.measured_steps < plain.measured_steps

# %% [markdown] lang="en"
# Fewer than a third of the steps, although not quite as few as predicted. The reason is honest mathematics: at the optimum the
# two eigenvalues coincide, and then the distance falls like $t\,\rho^t$, not like $\rho^t$. The slope is right, the start is later.
# Watch both paths (left: seen from above; right: distance to the bottom beside the predicted line):

# %% [markdown] lang="zh"
# 步数不到三分之一，不过没有预测的那么少。原因在数学里：参数取最优值时，两个特征值重合，距离按 $t\,\rho^t$ 而不是 $\rho^t$ 下降。
# 斜率没错，只是起步晚一些。请看两条路径（左：俯视图；右：到谷底的距离与预测直线）：

# %%
from course_lib.widgets.training import valley_figure

valley_figure(plain, RATIO, "gradient descent at its best rate")

# %%
valley_figure(heavy, RATIO, f"momentum {best_momentum:.2f} at its best rate")

# %% [markdown] lang="en"
# **Now you.** Below is the same figure with its knobs. Find (i) the rate at which plain descent turns from zigzag to
# explosion, (ii) a momentum that is too large: it arrives, but circles first, and its factor is $\sqrt\mu$ whatever the rate,
# (iii) a rate that diverges with Nesterov and converges without. (Without a running kernel you see the first picture only.)

# %% [markdown] lang="zh"
# **轮到你了。** 下面是同一张图，旋钮交给你。请找出：（i）学习率到多少时，普通梯度下降由来回折返变成爆炸；（ii）一个过大的动量：它能到达，
# 但要先绕圈，而且不论学习率多少，收缩率都是 $\sqrt\mu$；（iii）一个带 Nesterov 就发散、不带却收敛的学习率。（没有运行内核时只能看到第一幅图。）

# %%
from course_lib.widgets.training import valley_explorer

valley_explorer(lr=0.05, momentum=0.0, ratio=RATIO)

# %% [markdown] lang="en"
# Question (iii) can be settled without a mouse, from the eigenvalues alone:

# %% [markdown] lang="zh"
# 问题（iii）不用鼠标也能回答，看特征值就够了：

# %%
lr = 0.15
for nesterov in (False, True):
    print(f"lr {lr}, momentum 0.9, Nesterov {nesterov!s:5}: factor {contraction(lr, RATIO, 0.9, nesterov):.3f}")
assert contraction(lr, RATIO, 0.9) < 1 < contraction(lr, RATIO, 0.9, nesterov=True)

# %% [markdown] lang="en"
# ## 4 · Literal, library, torch: three times the same step
#
# Here is the whole of the library's SGD. The numbers in brackets are those of the formulas at the head of its file.

# %% [markdown] lang="zh"
# ## 4 · 照公式写、用库、用 torch：同一步走三遍
#
# 下面就是库中 SGD 的全部代码，括号里的编号对应该文件开头的公式。

# %%
print(inspect.getsource(SGD._update))

# %% [markdown] lang="en"
# Does it do what the loop does, and what torch does? All three get the same gradients, in double precision:

# %% [markdown] lang="zh"
# 它与循环的结果一样吗？与 torch 一样吗？三者用同一组双精度梯度：

# %%
def steps(make, gradients) -> torch.Tensor:
    """The weights after each step of an optimizer that is fed these gradients, from W = 0.5."""
    W = torch.full_like(gradients[0], 0.5).requires_grad_()
    optimizer, seen = make([W]), []
    for G in gradients:
        W.grad = G.clone()
        optimizer.step()
        seen.append(W.detach().clone())
    return torch.stack(seen)


gradients = torch.randn(30, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
w, V, literal = 0.5, 0.0, []
for g in gradients[:, 0].tolist():  # the first weight alone, in Python floats: momentum, eq. (2)
    V = 0.9 * V + g
    w = w - 0.1 * V
    literal.append(w)
ours = steps(lambda W: SGD(W, lr=0.1, momentum=0.9), gradients)
assert torch.allclose(ours[:, 0], torch.tensor(literal, dtype=torch.float64), rtol=0, atol=1e-13)

# %%
from course_lib.optimizers import Adam, AdamW

pairs = {
    "SGD": (lambda W: SGD(W, 0.1), lambda W: torch.optim.SGD(W, 0.1)),
    "momentum": (lambda W: SGD(W, 0.1, 0.9), lambda W: torch.optim.SGD(W, 0.1, 0.9)),
    "Nesterov": (lambda W: SGD(W, 0.1, 0.9, nesterov=True), lambda W: torch.optim.SGD(W, 0.1, 0.9, nesterov=True)),
    "Adam": (lambda W: Adam(W, 0.1), lambda W: torch.optim.Adam(W, 0.1)),
    "AdamW": (lambda W: AdamW(W, 0.1, weight_decay=0.1), lambda W: torch.optim.AdamW(W, 0.1, weight_decay=0.1)),
}
for name, (mine, theirs) in pairs.items():
    apart = (steps(mine, gradients) - steps(theirs, gradients)).abs().max().item()
    print(f"{name:9} largest difference from torch.optim in 30 steps: {apart:.1e}")
    assert apart < 1e-12  # a few roundings of 2^-52 a step; nothing is amplified, since the gradients are given

# %% [markdown] lang="en"
# ## 5 · Adam: a step size that does not depend on the size of the gradient
#
# Multiply the loss by 1000 and SGD's steps grow a thousandfold. Adam divides the mean of the gradients by the root of
# the mean of their squares, weight by weight, and the factor cancels:
#
# $$ m \leftarrow \beta_1 m + (1 - \beta_1)\, G, \qquad v \leftarrow \beta_2 v + (1 - \beta_2)\, G^2, \qquad
#    \hat m = \frac{m}{1 - \beta_1^t}, \quad \hat v = \frac{v}{1 - \beta_2^t}, \qquad
#    W \leftarrow W - \eta\, \frac{\hat m}{\sqrt{\hat v} + \epsilon} $$
#
# $m$ and $v$ start at 0, so early on they are too small. After one step $m = (1 - \beta_1) G$: the **bias correction** divides by
# exactly that. **Predict:** with $\beta_1 = 0.9$, $\beta_2 = 0.999$, how long is the very first step with the correction, and without?
#
# <details><summary>Hint</summary>With: $\hat m = G$ and $\hat v = G^2$. Without: $m = 0.1\,G$ and
# $\sqrt v = \sqrt{0.001}\,|G|$. The second ratio is not below 1.</details>

# %% [markdown] lang="zh"
# ## 5 · Adam：步长与梯度大小无关
#
# 把损失乘以 1000，SGD 的步长也变成一千倍。Adam 对每个权重分别用梯度的平均值除以梯度平方平均值的平方根，这个倍数就约掉了：
#
# $$ m \leftarrow \beta_1 m + (1 - \beta_1)\, G, \qquad v \leftarrow \beta_2 v + (1 - \beta_2)\, G^2, \qquad
#    \hat m = \frac{m}{1 - \beta_1^t}, \quad \hat v = \frac{v}{1 - \beta_2^t}, \qquad
#    W \leftarrow W - \eta\, \frac{\hat m}{\sqrt{\hat v} + \epsilon} $$
#
# $m$ 和 $v$ 从 0 开始，起初都偏小。第一步之后 $m = (1 - \beta_1) G$，**偏差修正**除掉的正是这个系数。
# **先猜：** 取 $\beta_1 = 0.9$、$\beta_2 = 0.999$，有修正时第一步有多长？没有修正呢？
#
# <details><summary>提示</summary>有修正：$\hat m = G$、$\hat v = G^2$。没有修正：$m = 0.1\,G$、
# $\sqrt v = \sqrt{0.001}\,|G|$。后一个比值并不小于 1。</details>

# %%
lr = 0.01
print("gradient   SGD's step   Adam's step / lr   without correction / lr")
for size in (1e-3, 1.0, 1e3):
    G = torch.full((1, 1), size, dtype=torch.float64)
    sgd, adam = (abs(steps(make, G).item() - 0.5) for make in (lambda W: SGD(W, lr), lambda W: Adam(W, lr)))
    uncorrected = lr * (1 - 0.9) * size / (math.sqrt(1 - 0.999) * size + 1e-8)
    print(f"{size:8g}   {sgd:10g}   {adam / lr:16.4f}   {uncorrected / lr:23.4f}")
    assert abs(adam / lr - 1) < 2e-5  # eps / |G| = 1e-5 for the smallest gradient
    assert abs(uncorrected / lr / ((1 - 0.9) / math.sqrt(1 - 0.999)) - 1) < 1e-3

# %% [markdown] lang="en"
# With the correction the first step is `lr`, for a gradient of a thousandth and of a thousand. Without it, it would be
# $0.1/\sqrt{0.001} = 3.16$ times as long, at the moment when the averages know least. The library's version:

# %% [markdown] lang="zh"
# 有了修正，不论梯度是千分之一还是一千，第一步都等于 `lr`。没有修正，第一步会是 $0.1/\sqrt{0.001} = 3.16$ 倍长，
# 偏偏这时平均值最不可靠。库中的写法：

# %%
print(inspect.getsource(Adam._update))

# %% [markdown] lang="en"
# ## 6 · Weight decay: why AdamW has a W
#
# Pulling weights towards 0 can be done in two places. In the **loss**: add $\frac{\lambda}{2} \lVert W \rVert^2$, so the gradient grows by
# $\lambda W$. Or **directly**: shrink $W$ by $\eta \lambda W$ in each step. For SGD the two are the same. For Adam they are not, since
# whatever enters the gradient is divided by $\sqrt{\hat v}$:
#
# $$ \text{AdamW: } W \leftarrow (1 - \eta\lambda)\, W - \ldots \qquad\qquad
#    \text{Adam with L2: } W \leftarrow W - \eta\, \frac{\lambda W + \ldots}{\sqrt{\hat v} + \epsilon} $$
#
# To see it alone, feed gradients of random sign, so that they pull nowhere on average: one group of weights gets $\pm 0.1$, another
# $\pm 10$. **Predict:** after $n$ steps AdamW leaves $(1 - \eta\lambda)^n$ of both. And Adam with L2?

# %% [markdown] lang="zh"
# ## 6 · 权重衰减：AdamW 里的 W 从何而来
#
# 把权重拉向 0 有两种做法。一是写进**损失**：加上 $\frac{\lambda}{2} \lVert W \rVert^2$，梯度便多出一项 $\lambda W$。二是**直接**来：
# 每步把 $W$ 减去 $\eta \lambda W$。对 SGD，两者是一回事；对 Adam 则不然，因为凡是进入梯度的都要除以 $\sqrt{\hat v}$：
#
# $$ \text{AdamW: } W \leftarrow (1 - \eta\lambda)\, W - \ldots \qquad\qquad
#    \text{Adam with L2: } W \leftarrow W - \eta\, \frac{\lambda W + \ldots}{\sqrt{\hat v} + \epsilon} $$
#
# 为了单独看清这一点，喂给它正负号随机的梯度，平均而言不往任何方向拉：一组权重得到 $\pm 0.1$，另一组得到 $\pm 10$。
# **先猜：** $n$ 步之后，AdamW 让两组都剩下 $(1 - \eta\lambda)^n$。那么 Adam 加 L2 呢？

# %%
lr, decay, n_steps, sizes = 0.01, 0.01, 1_000, (0.1, 10.0)
generator = torch.Generator().manual_seed(0)
signs = torch.randint(0, 2, (n_steps, 2, 2_000), generator=generator) * 2 - 1.0
noise = signs * torch.tensor(sizes)[:, None]  # (step, group, weight)
left = {}
for make in (Adam, AdamW):
    walked = steps(lambda W, make=make: make(W, lr, weight_decay=decay), noise)
    left[make.__name__] = walked[-1].mean(dim=1) / 0.5  # the share left of each group
expected = {"Adam": [math.exp(-n_steps * lr * decay / g) for g in sizes]}  # lr decay W / g a step
expected["AdamW"] = [(1 - lr * decay) ** n_steps] * 2
sigma = lr * math.sqrt(n_steps / 2_000) / 0.5  # of the mean of 2,000 random walks, relative to W = 0.5
for name, shares in left.items():
    for size, share, guess in zip(sizes, shares.tolist(), expected[name]):
        print(f"{name:5}  gradients of ±{size:<4}  left: predicted {guess:.3f}  measured {share:.3f}")
        assert abs(share - guess) < 5 * sigma

# %% [markdown] lang="en"
# Under Adam with L2 the weights with *small* gradients lose most of their size and those with large gradients almost nothing:
# the decay is strongest where the data say least, in a ratio nobody asked for. AdamW shrinks both alike. This matters here:
# chapter [3.1](03_1_weight_pruning.ipynb) prunes by magnitude, and the decay has shaped the magnitudes.

# %% [markdown] lang="zh"
# 用 Adam 加 L2，梯度*小*的权重几乎缩没了，梯度大的几乎没动：数据说得越少的地方衰减越强，而这种比例并不是谁想要的。AdamW 则一视同仁。
# 这与本课程有关：第 [3.1](03_1_weight_pruning.ipynb) 章按绝对值大小剪枝，而权重的大小正是被衰减塑造出来的。

# %% [markdown] lang="en"
# ## 7 · The loss: cross-entropy from its formula
#
# A classifier gives logits $u$. The probability of class $c$ is $e^{u_c} / \sum_k e^{u_k}$, and the loss is minus the logarithm of the one
# given to the true class $y$:
#
# $$ L = \log \sum_c e^{u_c} - u_y, \qquad \frac{\partial L}{\partial u_c} = \frac{e^{u_c}}{\sum_k e^{u_k}} - [c = y] $$
#
# The gradient reads: *predicted minus true*. Typed in literally, $e^{1000}$ overflows. Subtracting the largest logit first changes
# nothing on paper and everything in the machine:

# %% [markdown] lang="zh"
# ## 7 · 损失：照公式写交叉熵
#
# 分类器输出 logits $u$。类别 $c$ 的概率是 $e^{u_c} / \sum_k e^{u_k}$，损失是真实类别 $y$ 所得概率的负对数：
#
# $$ L = \log \sum_c e^{u_c} - u_y, \qquad \frac{\partial L}{\partial u_c} = \frac{e^{u_c}}{\sum_k e^{u_k}} - [c = y] $$
#
# 梯度读作：*预测减真实*。照字面敲进去，$e^{1000}$ 会溢出。先减去最大的 logit，纸面上什么都没变，机器里却天差地别：

# %%
from course_lib.training import cross_entropy

logits, label = torch.tensor([[1000.0, 0.0, -3.0]], requires_grad=True), torch.tensor([1])
literal = logits.exp().sum().log() - logits[0, 1]
loss = cross_entropy(logits, label)
loss.backward()
print(f"literal {literal.item()}  log-sum-exp {loss.item()}  torch {F.cross_entropy(logits, label).item()}")
print(f"gradient {logits.grad.tolist()[0]} = predicted [1, 0, 0] minus true [0, 1, 0]")
assert math.isinf(literal.item()) and loss.item() == F.cross_entropy(logits, label).item() == 1000.0
assert logits.grad.tolist() == [[1.0, -1.0, 0.0]]

# %% [markdown] lang="en"
# ## 8 · The loop, and what is hung on it
#
# Every later chapter trains with this function. Read its body; the five lines in the middle are all of training.

# %% [markdown] lang="zh"
# ## 8 · 训练循环，以及挂在上面的东西
#
# 后面每一章都用这个函数训练。请读它的函数体，中间那五行就是训练的全部。

# %%
from course_lib.training import train

print(inspect.getsource(train).split('"""')[2])

# %% [markdown] lang="en"
# **The schedule.** Start gently, because Adam's $v$ knows little and the weights are random; end gently, because near the bottom
# the noise of the batches keeps a large step from settling:
#
# $$ \eta_t = \eta\, \frac{t+1}{t_w} \;\; (t < t_w), \qquad
#    \eta_t = \frac{\eta}{2}\Bigl(1 + \cos \pi \frac{t - t_w}{N - t_w}\Bigr) \;\; (t \ge t_w) $$
#
# The figure shows the climb over $t_w$ steps and the half cosine after it; torch's scheduler draws the same cosine.

# %% [markdown] lang="zh"
# **调度。** 起步要轻，因为 Adam 的 $v$ 还没见过多少梯度，权重又是随机的；收尾也要轻，因为接近谷底时，步子一大就会被批次的噪声推来推去：
#
# $$ \eta_t = \eta\, \frac{t+1}{t_w} \;\; (t < t_w), \qquad
#    \eta_t = \frac{\eta}{2}\Bigl(1 + \cos \pi \frac{t - t_w}{N - t_w}\Bigr) \;\; (t \ge t_w) $$
#
# 图中先是 $t_w$ 步的爬升，然后是半个余弦；torch 的调度器画出的余弦与它相同。

# %%
from course_lib.training import warmup_cosine

N = 200
optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
cosine, theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=N), []
for _ in range(N):
    theirs.append(optimizer.param_groups[0]["lr"])
    optimizer.step()
    cosine.step()
ours = [warmup_cosine(t, N, 0.1) for t in range(N)]
assert max(abs(a - b) for a, b in zip(ours, theirs)) < 1e-12
warm = [warmup_cosine(t, N, 0.1, n_warmup=20) for t in range(N)]
ax = plots.curves({"cosine": ours, "warm-up 20 + cosine": warm}, xlabel="step", ylabel="learning rate")

# %% [markdown] lang="en"
# **Clipping.** One bad batch can throw the weights far away. If the norm of *all* gradients together exceeds a limit, shorten all of
# them by one factor; the direction stays. Numbers you can check in your head: the gradients $3$ and $4$ have the norm $5$.

# %% [markdown] lang="zh"
# **梯度截断。** 一个坏批次就可能把权重甩得很远。若*全部*梯度合起来的范数超过上限，就用同一个系数把它们统统缩短，方向不变。
# 能心算的例子：梯度 $3$ 和 $4$ 的范数是 $5$。

# %%
from course_lib.training import clip_gradients

W = [torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)]
for parameter, g in zip(W, (3.0, 4.0)):
    parameter.grad = torch.tensor([g])
norm = clip_gradients(W, max_norm=1.0)
clipped = [parameter.grad.item() for parameter in W]
print(f"norm {norm}, after clipping to 1: {clipped[0]:.4f}, {clipped[1]:.4f}")
assert norm == 5.0 and abs(clipped[0] - 0.6) < 1e-5 and abs(clipped[1] - 0.8) < 1e-5

# %% [markdown] lang="en"
# **Accumulation.** The gradient of a mean is the mean of the gradients. So a batch that does not fit into memory can be walked in
# pieces, each weighted by its share, and the update is the same:
#
# $$ \nabla \frac1B \sum_{i=1}^{B} L_i = \sum_k \frac{B_k}{B}\, \nabla \frac1{B_k} \sum_{i \in \text{piece } k} L_i $$
#
# Same, up to rounding: in double precision the two trainings below agree to a dozen digits and more. What changes is
# memory. **Predict:** the batch has 1,024 digits, walked at once or in 16 pieces. Does the peak fall by 16?
#
# <details><summary>Hint</summary>Activations belong to a piece; the gradients of the weights do not, and a new piece's gradient
# must stand somewhere while it is added to the sum.</details>

# %% [markdown] lang="zh"
# **梯度累积。** 平均值的梯度等于梯度的平均值。内存放不下的批次可以拆成几份来算，每份按占比加权，更新结果相同：
#
# $$ \nabla \frac1B \sum_{i=1}^{B} L_i = \sum_k \frac{B_k}{B}\, \nabla \frac1{B_k} \sum_{i \in \text{piece } k} L_i $$
#
# 除舍入误差外完全相同：用双精度，下面两次训练有十二位以上的数字一致。变的是内存。**先猜：** 一批 1,024 张图像，
# 一次算完，或者分 16 份算，内存峰值会降到十六分之一吗？
#
# <details><summary>提示</summary>激活值属于某一份；权重的梯度则与份数无关，而且新一份的梯度在加到总和之前，总得有地方放。</details>

# %%
from course_lib.data import mnist
from course_lib.models import lenet_300_100

digits = mnist()
x, y = digits.train_images[:1_024], digits.train_labels[:1_024]
results = []
for pieces in (1, 16):
    model = lenet_300_100(seed=0).double()
    optimizer = SGD(model.parameters(), 0.1)
    budget = {"batch_size": 1_024, "n_epochs": 3, "progress": False}
    train(model, x.double(), y, optimizer=optimizer, n_accumulate=pieces, **budget)
    results.append(torch.cat([W.detach().flatten() for W in model.parameters()]))
apart = (results[0] - results[1]).abs().max().item()
print(f"largest difference between the weights after 3 updates: {apart:.1e}")
assert apart < 1e-12

# %%
from course_lib.measure import n_parameters, peak_memory

model = lenet_300_100(seed=0)


def one_update(pieces: int) -> None:
    model.zero_grad()
    for images, labels in zip(x.chunk(pieces), y.chunk(pieces)):
        (len(images) / len(x) * cross_entropy(model(images), labels)).backward()


g, g1 = 4 * n_parameters(model), 4 * 784 * 300  # bytes: all gradients; those of the first layer's weights
for pieces in (1, 2, 4, 16):
    hidden = 4 * 300 * 1_024 // pieces  # bytes of one array of the first hidden layer
    predicted = g - g1 + 3 * hidden if pieces == 1 else max(g + 3 * hidden, g + g1 + hidden)
    peak = peak_memory(lambda n=pieces: one_update(n))
    ratio = peak / predicted
    print(f"{pieces:2} pieces: predicted {predicted / 1e6:.2f} MB, measured {peak / 1e6:.2f} MB, ratio {ratio:.3f}")
    assert abs(ratio - 1) < 0.01

# %% [markdown] lang="en"
# Two moments compete for the peak. Walking back through the first ReLU, three arrays of 300 numbers a sample are alive (its output,
# the gradient after it, the gradient before it) beside the weights' gradients. A moment later the piece's new gradient of the first
# layer stands beside the sum of the earlier ones. The first term falls with the pieces, the second does not: accumulation buys
# memory for activations and nothing else.

# %% [markdown] lang="zh"
# 有两个时刻在争峰值。反向经过第一个 ReLU 时，除了权重的梯度，每个样本还有三个 300 维数组同时存在（ReLU 的输出、ReLU 之后的梯度、ReLU 之前的梯度）；
# 紧接着，这一份算出的第一层新梯度要与前面各份的总和并存。前一项随份数增多而下降，后一项不会：梯度累积省下的只是激活值的内存。

# %% [markdown] lang="en"
# ## 9 · Checkpoints, and 16 bits
#
# **Stop and go on.** A night-long training must survive a power cut. A checkpoint holds all that the next step depends on: the weights,
# the optimizer's state, and the number of that step, from which the loop derives the order of the samples. **Predict:** how many bytes
# does Adam's checkpoint take for each weight of LeNet-300-100?

# %% [markdown] lang="zh"
# ## 9 · 检查点与 16 位
#
# **停下来，再接着走。** 跑一整夜的训练必须经得起断电。检查点里是下一步所依赖的一切：权重、优化器的状态，以及下一步的序号，
# 循环由这个序号推出样本的次序。**先猜：** 用 Adam 时，LeNet-300-100 的检查点平均每个权重占多少字节？

# %%
from course_lib.checkpoint import load_checkpoint, save_checkpoint

folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "run.pt"
budget = {"n_epochs": 2, "batch_size": 64, "seed": 3, "progress": False}
whole = lenet_300_100(seed=3)
optimizer = Adam(whole.parameters())
history = train(
    whole, x, y, optimizer=optimizer, **budget,
    after_step=lambda step: save_checkpoint(path, whole, optimizer, step + 1) if step == 20 else None,
)  # fmt: skip
size, predicted = path.stat().st_size, 12 * n_parameters(whole)
print(f"predicted (4 bytes each for W, m, v): {predicted:,}; measured: {size:,}; ratio {size / predicted:.3f}")
assert 1 <= size / predicted < 1.01  # the rest is names

# %%
resumed = lenet_300_100(seed=99)  # as a fresh process would have it
optimizer = Adam(resumed.parameters())
first_step = load_checkpoint(path, resumed, optimizer)
again = train(resumed, x, y, optimizer=optimizer, first_step=first_step, **budget)
assert all(a.equal(b) for a, b in zip(resumed.parameters(), whole.parameters()))
assert again.losses == history.losses[first_step:]

forgetful = lenet_300_100(seed=99)
load_checkpoint(path, forgetful, Adam(forgetful.parameters()))  # its state goes to an optimizer that nobody uses
lost = train(forgetful, x, y, optimizer=Adam(forgetful.parameters()), first_step=first_step, **budget)
print("resumed: bit for bit the uninterrupted run")
print(f"without m and v: last loss {lost.losses[-1]:.4f} instead of {again.losses[-1]:.4f}")
assert lost.losses[1:] != again.losses[1:]
folder.cleanup()

# %% [markdown] lang="en"
# The run that forgot Adam's averages did not fail. It went on, plausibly, as a *different* run, which is the nastier kind of bug:
# only the comparison bit for bit shows it.

# %% [markdown] lang="zh"
# 丢了 Adam 平均值的那次运行并没有报错。它看似正常地继续，却成了*另一次*训练。这种错误更阴险，只有逐位比较才能发现。

# %% [markdown] lang="en"
# **Sixteen bits.** Matrix products in 16 bits are what fast accelerators are made for. `float16` spends 5 bits on the exponent, so
# its smallest positive number is $2^{2 - 2^{E-1} - F}$ with $E = 5$, $F = 10$: $2^{-24}$, and whatever lies at or below half of that is
# rounded to 0. `bfloat16` has 8 exponent bits, as `float32`, and only 7 for the fraction. Gradients of a *trained* network
# are small. How many of them would vanish? The network comes from the course's store of trained ones.

# %% [markdown] lang="zh"
# **16 位。** 高速加速器正是为 16 位矩阵乘法而造的。`float16` 的指数只有 5 位，最小正数是 $2^{2 - 2^{E-1} - F}$，
# 其中 $E = 5$、$F = 10$，即 $2^{-24}$，不超过它一半的数都会舍入为 0。`bfloat16` 有 8 位指数，与 `float32` 相同，尾数却只有 7 位。
# *训练好*的网络梯度很小，其中有多少会消失？这个网络取自本课程训练好的几个网络。

# %%
from course_lib.precision import autocast_forward, smallest_positive, underflow_share
from course_lib.pretrained import trained

network = trained("lenet_300_100")
probe = copy.deepcopy(network)
x, y = digits.train_images[:BATCH], digits.train_labels[:BATCH]


def gradients_of(forward, scale: float = 1.0) -> torch.Tensor:
    """All gradients of the probe's loss on one batch, in one row; the loss is multiplied by `scale` first."""
    probe.zero_grad()
    (scale * cross_entropy(forward(x), y)).backward()
    return torch.cat([W.grad.flatten() for W in probe.parameters()])


G = gradients_of(probe)
ax = plots.weight_histogram(G[G != 0].abs().log2())
edge = math.log2(smallest_positive(torch.float16) / 2)
ax.axvline(edge, color=plots.COLORS[1], linestyle="--", label="0 in float16 from here down")
ax.set(xlabel="log2 |gradient|", title="gradients of a trained LeNet-300-100, one batch")
_ = ax.legend()

# %% [markdown] lang="en"
# Everything left of the dashed line is lost. But backward is linear: multiply the loss by $S$ and *every* gradient moves right by
# $\log_2 S$; divide by $S$ afterwards, in 32 bits. Prediction from the histogram alone, then the measurement, by a backward pass
# that really runs its products in `float16`:

# %% [markdown] lang="zh"
# 虚线左边的全部丢失。但反向传播是线性的：把损失乘以 $S$，*每个*梯度都右移 $\log_2 S$，事后在 32 位里再除以 $S$。
# 先只凭直方图预测，再用真正以 `float16` 做乘法的反向传播来测量：

# %%
half, nonzero = autocast_forward(probe, torch.float16), G != 0
for power in (0, 8, 16, 24):
    S = 2.0**power
    measured = gradients_of(half, S)
    lost = (measured[nonzero] == 0).double().mean().item()
    predicted = underflow_share(G, torch.float16, S)
    overflow = "" if measured.isfinite().all() else "  OVERFLOW: S is too large"
    print(f"S = 2^{power:<2}  lost: predicted {predicted:6.2%}  measured {lost:6.2%}{overflow}")
    assert power > 16 or abs(lost - predicted) < 0.02  # products are rounded too, so the two are near and not equal
print(f"bfloat16, S = 1: predicted {underflow_share(G, torch.bfloat16):.2%}")

# %% [markdown] lang="en"
# So $S$ must be large, but not too large, and the right value changes while training. `LossScaler` searches it: half after an
# overflow (that step is skipped), double after many good ones. A whole mixed-precision loop, with the weights in 32 bits:

# %% [markdown] lang="zh"
# 所以 $S$ 要大，又不能太大，合适的值还会随训练变化。`LossScaler` 自动寻找：溢出后减半（跳过这一步），连续成功多次后加倍。
# 一个完整的混合精度循环，权重保持 32 位：

# %%
from course_lib.precision import LossScaler

student = lenet_300_100(seed=1)
optimizer, scaler = Adam(student.parameters()), LossScaler(scale=2.0**24, n_good=10)
forward, losses, scales = autocast_forward(student, torch.float16), [], []
for _ in range(20):
    optimizer.zero_grad()
    loss = cross_entropy(forward(x), y)
    scaler.scaled(loss).backward()
    if scaler.unscale(student.parameters()):
        optimizer.step()
    losses.append(loss.item())
    scales.append(int(math.log2(scaler.scale)))
print("log2 S after each step:", *scales)
print(f"loss: {losses[0]:.3f} -> {losses[-1]:.3f}")
assert losses[-1] < losses[0] / 2 and min(scales) < 24
assert all(W.dtype == torch.float32 for W in student.parameters())

# %% [markdown] lang="en"
# And is it faster? That depends on the machine, so ask the machine: paired runs, one thread, and an interval.

# %% [markdown] lang="zh"
# 那么它更快吗？这要看机器，那就去问机器：成对运行，单线程，并给出区间。

# %%
from course_lib.measure import latency, speed_ratio

print(f"one float32 forward and backward pass, batch {BATCH}: {latency(lambda: gradients_of(probe), n_repeats=10)}")
for dtype in (torch.bfloat16, torch.float16):
    forward = autocast_forward(probe, dtype)
    ratio = speed_ratio(lambda: gradients_of(probe), lambda f=forward: gradients_of(f), n_repeats=10)
    word = "faster" if ratio.low > 1 else "slower" if ratio.high < 1 else "no difference shown"
    print(f"{dtype!s:15} against float32: {ratio}: {word}")

# %% [markdown] lang="en"
# An interval that contains 1 shows nothing. A processor without 16-bit units converts back and forth and loses; the loop was made
# for accelerators that have them (Micikevicius et al. 2018). Whatever your machine printed is the answer for your machine.

# %% [markdown] lang="zh"
# 区间包含 1，就什么也说明不了。没有 16 位单元的处理器要来回转换，反而更慢；这个循环本是为带这种单元的加速器设计的（Micikevicius 等，2018）。
# 你的机器打印出什么，答案对你的机器就是什么。

# %% [markdown] lang="en"
# ## 10 · Real digits, equal budgets
#
# Now the optimizers on LeNet-300-100. The budget is the same for all: the balanced subset of 4,000 training digits, 2 epochs,
# batches of 128, the same schedule. Only the learning rate is chosen, on 5,000 *validation* digits held out of the training set.
# The test set is not touched. **Predict:** which optimizer has the largest best rate, and which the smallest?
#
# <details><summary>Hint</summary>Momentum 0.9 walks up to $1/(1 - 0.9) = 10$ times as far as its rate says. Adam's rate *is* its step,
# for each of 266,610 parameters.</details>

# %% [markdown] lang="zh"
# ## 10 · 真实数字，相同预算
#
# 现在让各个优化器训练 LeNet-300-100。预算完全一样：类别均衡的 4,000 张训练图像、2 轮、每批 128 张、同一个调度。
# 唯一要选的是学习率，用从训练集中留出的 5,000 张*验证*图像来选，不碰测试集。**先猜：** 哪个优化器的最佳学习率最大，哪个最小？
#
# <details><summary>提示</summary>动量 0.9 最多能走出学习率的 $1/(1 - 0.9) = 10$ 倍远。Adam 的学习率*就是*它的步长，
# 266,610 个参数个个如此。</details>

# %%
from course_lib.measure import n_errors
from course_lib.training import n_updates

final, choosing = digits.hold_out(10_000)
part = choosing.subset(N_TRAIN, n_test=5_000)
n_steps = n_updates(N_TRAIN, N_EPOCHS, BATCH)
makers = {
    "SGD": lambda W, lr: SGD(W, lr),
    "momentum": lambda W, lr: SGD(W, lr, momentum=0.9),
    "Nesterov": lambda W, lr: SGD(W, lr, momentum=0.9, nesterov=True),
    "Adam": Adam,
    "AdamW": AdamW,
}
grids = dict.fromkeys(("Adam", "AdamW"), (0.001, 0.003, 0.01, 0.03))
grids |= dict.fromkeys(("SGD", "momentum", "Nesterov"), (0.03, 0.1, 0.3, 1.0))


# %%
def fit(name: str, lr: float, seed: int) -> nn.Sequential:
    """LeNet-300-100 trained with the named optimizer under the budget above; the seed changes weights and order."""
    model = lenet_300_100(seed=seed)
    train(
        model,
        part.train_images,
        part.train_labels,
        optimizer=makers[name](model.parameters(), lr),
        schedule=lambda t: warmup_cosine(t, n_steps, lr, n_warmup=5),
        n_epochs=N_EPOCHS,
        batch_size=BATCH,
        seed=seed,
        progress=False,
    )
    return model


# %%
from tqdm.auto import tqdm

sweep = {name: {} for name in makers}
runs = [(name, lr) for name in makers for lr in grids[name]]
for name, lr in tqdm(runs, desc="learning-rate sweep"):
    try:
        sweep[name][lr] = 100 * n_errors(fit(name, lr, seed=0), part.test_images, part.test_labels) / 5_000
    except FloatingPointError:  # the loop's word for "diverged"
        sweep[name][lr] = 90.0
best = {name: min(errors, key=errors.get) for name, errors in sweep.items()}
ax = plots.curves(
    {name: (list(errors), list(errors.values())) for name, errors in sweep.items()},
    xlabel="learning rate", ylabel="validation errors (%)", title=f"{n_steps} updates each", log_x=True, log_y=True,
)
for name, errors in sweep.items():
    shown = "  ".join(f"lr {lr:g}: {error:.2f} %" for lr, error in errors.items())
    print(f"{name:9} {shown}   best {best[name]:g}")
assert best["SGD"] > best["Adam"] and best["SGD"] >= best["momentum"]

# %% [markdown] lang="en"
# Five valleys, each with its own bottom: the rate is a property of the optimizer as much as of the problem, and a comparison at one
# common rate would only measure which optimizer that rate suits. Now three seeds each, at the chosen rates, and the **test** set:

# %% [markdown] lang="zh"
# 五条曲线各有各的谷底：学习率既取决于问题，也取决于优化器；若让大家共用一个学习率，测出来的只是这个学习率适合谁。
# 现在取选定的学习率，每个优化器三个随机种子，在**测试集**上比较：

# %%
from course_lib.measure import accuracy, accuracy_interval, mean_interval, verdict

models = {name: [fit(name, best[name], seed) for seed in SEEDS] for name in tqdm(makers, desc="three seeds each")}
scores = {name: [accuracy(m, final.test_images, final.test_labels) for m in models[name]] for name in makers}
for name, values in scores.items():
    low, high = mean_interval(values)
    each = "  ".join(f"{v:.2%}" for v in values)
    print(f"{name:9} lr {best[name]:<5g} test accuracy {each}   mean in [{low:.2%}, {high:.2%}]")
low, high = accuracy_interval(round(10_000 * scores["Adam"][0]), 10_000)
print(f"a single network, 10,000 test digits: {scores['Adam'][0]:.2%} means [{low:.2%}, {high:.2%}]")

# %%
claims = (("momentum", "SGD"), ("Adam", "SGD"), ("Adam", "momentum"), ("Nesterov", "momentum"), ("AdamW", "Adam"))
for candidate, baseline in claims:
    difference = [100 * (c - b) for c, b in zip(scores[candidate], scores[baseline])]
    shown = "  ".join(f"{d:+.2f}" for d in difference)
    outcome = verdict(scores[candidate], scores[baseline])
    print(f"{candidate:9} against {baseline:9} difference by seed: {shown}   -> {outcome}")
assert verdict(scores["Adam"], scores["SGD"]) != "worse" and min(scores["Adam"]) > max(scores["SGD"])

# %% [markdown] lang="en"
# What the table allows you to say, and no more: with 64 updates and a tuned rate, Adam ends well ahead of plain SGD in every seed.
# Where it prints *no difference shown*, three seeds could not tell, which is not the same as *equal*. With a longer budget the
# order may change; that would be another experiment.
#
# The last row asks for a second look. With the same seed, Adam and AdamW make nearly the same network, so their differences
# scatter little and even a few hundredths of a percent may be *shown*. Shown is not *important*. State beforehand which difference
# would matter to you, here half a percentage point, and ask again:

# %% [markdown] lang="zh"
# 这张表允许你下的结论只有这些：更新 64 次、学习率各自调好时，Adam 在每个种子上都明显领先普通 SGD。凡是打印 *no difference shown* 的地方，
# 是三个种子分辨不出来，这不等于*相等*。预算更长时名次可能改变，那就是另一个实验了。
#
# 最后一行值得再看一眼。种子相同时，Adam 与 AdamW 得到的网络几乎一样，差值的波动很小，于是差百分之零点零几也可能被判为“有差别”。
# 有差别不等于*要紧*。请事先说好多大的差别才算数，这里取半个百分点，再问一遍：

# %%
again = verdict(scores["AdamW"], scores["Adam"], margin=0.005)
print("AdamW against Adam, where half a percentage point matters:", again)
assert again == "no difference shown" and max(abs(a - b) for a, b in zip(scores["AdamW"], scores["Adam"])) < 0.01

# %% [markdown] lang="en"
# ## 11 · Where training meets making small
#
# Back to the fence of section 1. Pruning to a sparsity of $p = 0.9$ asks for the best network with at most a tenth of its weights:
#
# $$ \min_\theta L(\theta) \;\;\text{subject to}\;\; \lVert W \rVert_0 \le (1 - p)\, n, \qquad
#    W \leftarrow M \odot \bigl(W - \eta\, G\bigr) $$
#
# Magnitude pruning (chapter [3.1](03_1_weight_pruning.ipynb)) jumps over the fence without looking at the loss; training with the
# mask $M$ held (right) goes on *inside*. **Predict** the test errors of the trained network (under 2 %) after the jump, and after 2 epochs
# on 6,000 digits inside the fence.

# %% [markdown] lang="zh"
# ## 11 · 训练与“变小”在哪里相遇
#
# 回到第 1 节的栅栏。剪枝到稀疏度 $p = 0.9$，要找的是权重不超过十分之一的网络中最好的那个：
#
# $$ \min_\theta L(\theta) \;\;\text{subject to}\;\; \lVert W \rVert_0 \le (1 - p)\, n, \qquad
#    W \leftarrow M \odot \bigl(W - \eta\, G\bigr) $$
#
# 按绝对值剪枝（第 [3.1](03_1_weight_pruning.ipynb) 章）不看损失，一步跳进栅栏；保持掩码 $M$ 继续训练（右式），则是在栅栏*里面*接着走。
# **先猜**训练好的网络（错误率不到 2 %）跳进去之后的测试错误率，以及在栅栏内用 6,000 张图像训练 2 轮之后的错误率。

# %%
from course_lib.measure import predict, sparsity
from course_lib.pruning import attach_masks, global_masks, magnitude_score, prunable_weights

small = copy.deepcopy(network)
scored = {name: magnitude_score(W) for name, W in prunable_weights(small).items()}
attach_masks(small, global_masks(scored, SPARSITY))
test = (final.test_images, final.test_labels)
errors = {"dense": n_errors(network, *test), "pruned": n_errors(small, *test)}
jumped, zeros = predict(small, final.test_images), sparsity(small)

# %%
tuning = choosing.subset(6_000)
optimizer = Adam(small.parameters(), lr=1e-3)
train(small, tuning.train_images, tuning.train_labels, optimizer=optimizer, n_epochs=2, description="fine-tuning")
errors["fine-tuned"] = n_errors(small, *test)
for name, n in errors.items():
    low, high = (1 - a for a in accuracy_interval(10_000 - n, 10_000))
    print(f"{name:10} {n:5} of 10,000 wrong: {n / 10_000:.2%}  [{high:.2%}, {low:.2%}]")
print(f"sparsity {sparsity(small):.3f}, as before: the zeros stayed zeros")
assert errors["dense"] < errors["fine-tuned"] < errors["pruned"] / 2 and sparsity(small) >= zeros > 0.89

# %% [markdown] lang="en"
# Two cells: the jump costs several percent, two short epochs of the same old loop win most of it back, and not one zero
# moved. That is the document's sentence, measured. Look closer with the course's instruments. Which answers changed?

# %% [markdown] lang="zh"
# 两个单元格：跳那一下丢掉好几个百分点，同一个老循环再走短短两轮就拿回大半，而零一个也没有动。这就是原文那句话的实测版。
# 再用本课程的量具看得细一些：哪些答案变了？

# %%
from course_lib.measure import agreement, calibration_error, flips, mcnemar_p, verdict_on_test_set

dense, tuned, labels = predict(network, final.test_images), predict(small, final.test_images), final.test_labels
for name, logits in (("pruned", jumped), ("fine-tuned", tuned)):
    changed = flips(dense, logits, labels)
    ece = calibration_error(logits.softmax(dim=1), labels)
    p = mcnemar_p(changed.broken, changed.mended)
    print(f"{name:10} agrees with dense on {agreement(dense, logits):.2%}, calibration error {ece:.3f}")
    print(f"{'':10} broke {changed.broken} answers, mended {changed.mended}; p of a fair coin {p:.1e}")
print("fine-tuned against dense, on this test set:", verdict_on_test_set(tuned, dense, labels))
assert verdict_on_test_set(tuned, jumped, labels) == "better"

# %% [markdown] lang="en"
# And is the pruned network *smaller*? Count before you claim:

# %% [markdown] lang="zh"
# 那么剪过的网络真的*更小*了吗？先数清楚再下结论：

# %%
from course_lib.measure import dense_bytes, macs, n_nonzero

for name, model in (("dense", network), ("pruned", small)):
    operations = sum(macs(model, x[:1]).values())  # for one digit
    print(f"{name:7} {n_parameters(model):,} parameters, of them {n_nonzero(model):,} not zero")
    print(f"{'':7} {dense_bytes(model):,} bytes, {operations:,} multiply-accumulates")
assert dense_bytes(small) == dense_bytes(network) and sum(macs(small, x[:1]).values()) == 266_200

# %% [markdown] lang="en"
# Not by one byte and not by one operation, as long as zeros are stored and multiplied. Turning zeros into bytes is chapter
# [3.1](03_1_weight_pruning.ipynb)'s business.
#
# **The answer to the sentence of section 1.** Training and model optimization minimize the *same* loss. Making small adds a
# constraint (zeros, few levels, few layers), and every method of section 3 needs training somewhere: pruning to heal (here),
# quantization to learn under rounding, distillation to have a better target. The document's appendix says that the two differ in
# what they care about: true, and its section 2 is true as well: they share the algorithm.

# %% [markdown] lang="zh"
# 只要零还照样存、照样乘，就一个字节、一次运算也没有少。怎样把零变成省下的字节，是第 [3.1](03_1_weight_pruning.ipynb) 章的事。
#
# **对第 1 节那句话的回答。** 训练与模型优化最小化的是*同一个*损失。变小只是添了约束（零、少数几个取值、更少的层），
# 而第 3 节的每种方法都离不开训练：剪枝靠它恢复（如上所示），量化靠它适应取整，蒸馏靠它去拟合更好的目标。原文附录说两者关注点不同，没错；
# 第 2 节说两者密切相关，也没错：它们用的是同一套算法。

# %% [markdown] lang="en"
# ## Summary
#
# - On a parabola everything is known beforehand: descent diverges at $\eta = 2/a_{\max}$, and its best factor per step is
#   $(\kappa - 1)/(\kappa + 1)$; momentum turns $\kappa$ into $\sqrt\kappa$.
# - Adam's first step is `lr` in every coordinate, thanks to the bias correction. L2 inside Adam decays weights unevenly;
#   AdamW does not.
# - Accumulation equals the large batch; a resumed run equals the uninterrupted one, but only with the optimizer's state.
# - `float16` loses the gradients at or below $2^{-25}$: predicted from the format, measured, repaired by scaling the loss.
# - Comparisons: tune each rate on validation data, equal budgets, three seeds, then a verdict that may be *no difference shown*.
# - Fine-tuning is training with a constraint. That is the tie between section 2's two words.

# %% [markdown] lang="zh"
# ## 小结
#
# - 在抛物线上一切都能事先算出：梯度下降在 $\eta = 2/a_{\max}$ 处发散，每步最好的收缩率是 $(\kappa - 1)/(\kappa + 1)$；
#   动量把 $\kappa$ 变成 $\sqrt\kappa$。
# - 靠偏差修正，Adam 的第一步在每个坐标上都是 `lr`。写进 Adam 的 L2 对各个权重衰减不均，AdamW 不会。
# - 梯度累积等价于大批次；从检查点接着跑等于没停过，但必须带上优化器的状态。
# - `float16` 会丢掉不超过 $2^{-25}$ 的梯度：由格式预测，经测量证实，靠损失缩放补救。
# - 做比较：各自在验证数据上调好学习率，预算相同，三个随机种子，然后下结论，结论可以是 *no difference shown*。
# - 微调就是带约束的训练。第 2 节里那两个词，正是这样连起来的。

# %% [markdown] lang="en"
# ## Functions used
#
# - `course_lib.optimizers.SGD`, `course_lib.optimizers.Adam`, `course_lib.optimizers.AdamW`, `course_lib.optimizers.contraction`
# - `course_lib.training.train` (returns a `History`), `course_lib.training.cross_entropy`, `course_lib.training.warmup_cosine`,
#   `course_lib.training.clip_gradients`, `course_lib.training.n_updates`
# - `course_lib.checkpoint.save_checkpoint`, `course_lib.checkpoint.load_checkpoint`
# - `course_lib.precision.smallest_positive`, `course_lib.precision.underflow_share`, `course_lib.precision.LossScaler`,
#   `course_lib.precision.autocast_forward`
# - `course_lib.measure.n_parameters`, `course_lib.measure.n_nonzero`, `course_lib.measure.sparsity`, `course_lib.measure.dense_bytes`,
#   `course_lib.measure.macs`, `course_lib.measure.latency`, `course_lib.measure.speed_ratio`, `course_lib.measure.peak_memory` (times come as
#   `Latency` and `SpeedRatio`)
# - `course_lib.measure.predict`, `course_lib.measure.n_errors`, `course_lib.measure.accuracy`, `course_lib.measure.accuracy_interval`,
#   `course_lib.measure.calibration_error`, `course_lib.measure.agreement`, `course_lib.measure.flips` (counts come as `Flips`)
# - `course_lib.measure.verdict`, `course_lib.measure.mean_interval`, `course_lib.measure.mcnemar_p`, `course_lib.measure.verdict_on_test_set`
# - `course_lib.pretrained.trained`, `course_lib.models.lenet_300_100`, `course_lib.data.mnist`, `course_lib.pruning.attach_masks`,
#   `course_lib.pruning.global_masks`, `course_lib.pruning.magnitude_score`, `course_lib.pruning.prunable_weights`
# - `course_lib.widgets.training.valley_values` (a `Descent`, put in words by `describe`), `course_lib.widgets.training.valley_figure`,
#   `course_lib.widgets.training.valley_explorer`

# %% [markdown] lang="zh"
# ## 用到的函数
#
# - `course_lib.optimizers.SGD`、`course_lib.optimizers.Adam`、`course_lib.optimizers.AdamW`、`course_lib.optimizers.contraction`
# - `course_lib.training.train`（返回 `History`）、`course_lib.training.cross_entropy`、`course_lib.training.warmup_cosine`、
#   `course_lib.training.clip_gradients`、`course_lib.training.n_updates`
# - `course_lib.checkpoint.save_checkpoint`、`course_lib.checkpoint.load_checkpoint`
# - `course_lib.precision.smallest_positive`、`course_lib.precision.underflow_share`、`course_lib.precision.LossScaler`、
#   `course_lib.precision.autocast_forward`
# - `course_lib.measure.n_parameters`、`course_lib.measure.n_nonzero`、`course_lib.measure.sparsity`、`course_lib.measure.dense_bytes`、
#   `course_lib.measure.macs`、`course_lib.measure.latency`、`course_lib.measure.speed_ratio`、`course_lib.measure.peak_memory`（时间以
#   `Latency` 和 `SpeedRatio` 给出）
# - `course_lib.measure.predict`、`course_lib.measure.n_errors`、`course_lib.measure.accuracy`、`course_lib.measure.accuracy_interval`、
#   `course_lib.measure.calibration_error`、`course_lib.measure.agreement`、`course_lib.measure.flips`（计数以 `Flips` 给出）
# - `course_lib.measure.verdict`、`course_lib.measure.mean_interval`、`course_lib.measure.mcnemar_p`、`course_lib.measure.verdict_on_test_set`
# - `course_lib.pretrained.trained`、`course_lib.models.lenet_300_100`、`course_lib.data.mnist`、`course_lib.pruning.attach_masks`、
#   `course_lib.pruning.global_masks`、`course_lib.pruning.magnitude_score`、`course_lib.pruning.prunable_weights`
# - `course_lib.widgets.training.valley_values`（得到 `Descent`，由 `describe` 写成文字）、`course_lib.widgets.training.valley_figure`、
#   `course_lib.widgets.training.valley_explorer`

# %% [markdown] lang="en"
# ## Exercises and what comes next
#
# **Exercises:** [02_2_training](../../exercises/en/02_2_training.ipynb), eight tasks in NumPy. Three experiments to do right here:
# (1) set `RATIO` to 100 and predict both step counts of section 3 before you run it; (2) write Nesterov's literal loop in section 4
# and compare; (3) give the headline five seeds and see which *no difference shown* changes.
#
# Next: [3.1 · Weight pruning](03_1_weight_pruning.ipynb), where the zeros of section 11 become bytes.

# %% [markdown] lang="zh"
# ## 练习与下一步
#
# **练习：** [02_2_training](../../exercises/zh/02_2_training.ipynb)，共八项任务，全部用 NumPy。
# 这里就能做三个实验：（1）把 `RATIO` 设为 100，运行之前先算出第 3 节的两个步数；
# （2）在第 4 节照公式写出 Nesterov 的循环，并作比较；（3）把主要比较换成五个随机种子，看看哪个 *no difference shown* 会改变。
#
# 下一章：[3.1 · 权重剪枝](03_1_weight_pruning.ipynb)，在那里第 11 节的零会变成省下的字节。

# %% [markdown] lang="en"
# ## Sources
#
# - B. T. Polyak, *Some methods of speeding up the convergence of iteration methods*, 1964 (momentum, eq. 9).
# - I. Sutskever, J. Martens, G. Dahl, G. Hinton, *On the importance of initialization and momentum in deep learning*, ICML 2013.
# - D. P. Kingma, J. Ba, *Adam: a method for stochastic optimization*, ICLR 2015 (algorithm 1).
# - I. Loshchilov, F. Hutter, *SGDR*, ICLR 2017 (eq. 5); *Decoupled weight decay regularization*, ICLR 2019 (algorithm 2).
# - R. Pascanu, T. Mikolov, Y. Bengio, *On the difficulty of training recurrent neural networks*, ICML 2013 (clipping).
# - P. Goyal et al., *Accurate, large minibatch SGD*, 2017 (warm-up).
# - P. Micikevicius et al., *Mixed precision training*, ICLR 2018.
# - G. Goh, *Why momentum really works*, Distill 2017.
# - E. B. Wilson, 1927; Q. McNemar, 1947; Student, 1908; C. Guo et al., *On calibration of modern neural networks*, ICML 2017.

# %% [markdown] lang="zh"
# ## 参考文献
#
# - B. T. Polyak, *Some methods of speeding up the convergence of iteration methods*，1964（动量，式 9）。
# - I. Sutskever, J. Martens, G. Dahl, G. Hinton, *On the importance of initialization and momentum in deep learning*，ICML 2013。
# - D. P. Kingma, J. Ba, *Adam: a method for stochastic optimization*，ICLR 2015（算法 1）。
# - I. Loshchilov, F. Hutter, *SGDR*，ICLR 2017（式 5）；*Decoupled weight decay regularization*，ICLR 2019（算法 2）。
# - R. Pascanu, T. Mikolov, Y. Bengio, *On the difficulty of training recurrent neural networks*，ICML 2013（梯度截断）。
# - P. Goyal et al., *Accurate, large minibatch SGD*，2017（预热）。
# - P. Micikevicius et al., *Mixed precision training*，ICLR 2018。
# - G. Goh, *Why momentum really works*，Distill 2017。
# - E. B. Wilson，1927；Q. McNemar，1947；Student，1908；C. Guo et al., *On calibration of modern neural networks*，ICML 2017。
