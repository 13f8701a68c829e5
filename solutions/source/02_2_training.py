# %% [markdown] lang="en"
# # Exercise 2.2 · Training from the formulas
#
# Eight tasks, 25 points, about 90 minutes. They belong to chapter [2.2](../../notebooks/en/02_2_training.ipynb). You write a step with
# momentum, mend an AdamW that is none and then the test that would have caught it, set a schedule, put a batch together from its pieces
# and clip it, keep 16-bit gradients alive, and design a training run that somebody else carries out.
#
# Run the cells from top to bottom. A check cell says nothing when you are right, and shows both values when you are not. Everything
# is NumPy, in `float64` unless a task says otherwise: no torch and no `course_lib.optimizers`, which is what you are building. Return
# new arrays; never change one that you were given.
#
# What is graded are the answer cells alone: put helpers of your own into them. An answer may use the setup cell's imports and
# helpers and your other answers; the cells of pictures and checks are not there when it is graded.

# %% [markdown] lang="zh"
# # 练习 2.2 · 从公式出发的训练
#
# 共八项任务，25 分，约需 90 分钟，对应第 [2.2](../../notebooks/zh/02_2_training.ipynb) 章。你将写出带动量的一步，修好一个名不副实的 AdamW，再写一个能抓住这些错误的测试；
# 定一个学习率调度，把几份梯度拼成一个并截断，让 16 位的梯度不致消失，最后设计一次训练，交给别人去执行。
#
# 请从上到下依次运行。答对时检查单元格没有任何输出，答错时会同时给出你的值和正确的值。全部使用 NumPy，除非任务另有说明，一律用 `float64`：
# 不用 torch，也不用 `course_lib.optimizers`，它正是你要亲手实现的东西。请返回新数组，不要改动传进来的数组。
#
# 评分时只看作答单元格，自己写的辅助函数也请放在里面。答案可以使用准备单元格中导入的库和函数，以及你的其他答案；画图和检查的单元格在评分时并不存在。

# %% role="setup"
import math

import matplotlib.pyplot as plt
import numpy as np
from course_lib import plots

plots.use_course_style()


def normal(*shape, seed=0):
    """Gaussian numbers, the same at every run."""
    return np.random.default_rng(seed).normal(size=shape)


# %% [markdown] lang="en"
# ## Task 1 · One step with momentum (2 points)
#
# An optimizer without hidden state: weights and running sum go in, new ones come out. Weight decay enters the gradient, as L2.
#
# $$ G' = G + \lambda W, \qquad V \leftarrow \mu V + G', \qquad W \leftarrow W - \eta V $$
#
# Arrays of any shape. About 2 lines.
#
# <details><summary>Hint 1</summary>The weights move by the *new* $V$, and the decay uses the *old* $W$.</details>
# <details><summary>Hint 2</summary>`V *= momentum` changes the caller's array; `V = momentum * V` makes a new one.</details>

# %% [markdown] lang="zh"
# ## 任务 1 · 带动量的一步（2 分）
#
# 写一个没有隐藏状态的优化器：传入权重和累积量，返回新的权重和累积量。权重衰减按 L2 的方式进入梯度。
#
# $$ G' = G + \lambda W, \qquad V \leftarrow \mu V + G', \qquad W \leftarrow W - \eta V $$
#
# 数组可以是任何形状。约 2 行。
#
# <details><summary>提示 1</summary>权重按*新*的 $V$ 移动，衰减用的是*旧*的 $W$。</details>
# <details><summary>提示 2</summary>`V *= momentum` 会改动传进来的数组，`V = momentum * V` 则得到一个新数组。</details>

# %% role="answer" id="momentum-step"
import numpy as np


def momentum_step(
    W: np.ndarray, V: np.ndarray, G: np.ndarray, lr: float, momentum: float, weight_decay: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the new W and the new V."""
    # BEGIN SOLUTION (about 2 lines)
    V = momentum * V + G + weight_decay * W
    return W - lr * V, V
    # END SOLUTION


# %% role="check" id="momentum-step-check" points="2"
W, V, G = np.array([[1.0, -2.0]]), np.array([[0.5, 0.0]]), np.array([[3.0, 4.0]])
before = [A.copy() for A in (W, V, G)]
for settings, want in {
    (0.1, 0.9, 0.0): ([[0.655, -2.4]], [[3.45, 4.0]]),
    (0.1, 0.9, 0.5): ([[0.605, -2.3]], [[3.95, 3.0]]),
}.items():
    got = momentum_step(W, V, G, *settings)
    for name, a, b in zip("WV", got, want):
        assert np.allclose(a, b, atol=1e-9), (
            f"lr, momentum, weight_decay = {settings}: {name} is {np.asarray(a).tolist()}, want {b}"
        )
for name, a, b in zip("WVG", (W, V, G), before):
    assert np.array_equal(a, b), f"the input {name} was changed from {b.tolist()} to {a.tolist()}"

# %% [markdown] lang="en" role="solution"
# **Decay has a memory too.** $\lambda W$ went into $V$, so each decay goes on for about $1/(1 - \mu)$ steps, like every other gradient.
# Here that is harmless: along a long run it only makes the pull ten times stronger, as momentum 0.9 does with everything.

# %% [markdown] lang="zh" role="solution"
# **衰减也有记忆。** $\lambda W$ 进了 $V$，所以每一次衰减都会像其他梯度一样，延续大约 $1/(1 - \mu)$ 步。这里并无害处：长期来看，不过是把拉力放大到十倍，
# 而动量 0.9 对一切梯度都是如此。

# %% [markdown] lang="en"
# ## Task 2 · Mend this AdamW (3 points)
#
# A colleague sends the function below as "AdamW". The picture shows the length of its first step, in units of the learning rate, for
# gradients of many sizes. Adam promises 1 (the dotted line), as long as the gradient is much larger than $\epsilon = 10^{-8}$.

# %% [markdown] lang="zh"
# ## 任务 2 · 修好这个 AdamW（3 分）
#
# 一位同事发来下面的函数，说是“AdamW”。图中画出了梯度大小不同时它第一步的长度，以学习率为单位。
# 只要梯度远大于 $\epsilon = 10^{-8}$，Adam 保证这个长度是 1（点线）。


# %% role="given"
def listing(W, m, v, G, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01):
    """Sold as AdamW; t counts the updates from 1."""
    G = G + weight_decay * W
    m = beta1 * m + (1 - beta1) * G
    v = beta2 * v + (1 - beta2) * G**2
    return W - lr * m / np.sqrt(v + eps), m, v


sizes, zero = 10.0 ** np.arange(-6, 4), np.zeros(10)
lengths = -listing(zero, zero, zero, sizes, 1, lr=1.0)[0]
axis = plots.curves({"the listing": (sizes, lengths)}, "size of the gradient", "first step / learning rate", log_x=True)
axis.axhline(1.0, color="black", linestyle=":", label="what Adam promises")
axis.legend()
plt.show()

# %% [markdown] lang="en"
# There are three faults, and the picture shows two of them. Write the step that was meant. About 5 lines.
#
# $$ m \leftarrow \beta_1 m + (1 - \beta_1)\, G, \qquad v \leftarrow \beta_2 v + (1 - \beta_2)\, G^2, \qquad
#    W \leftarrow (1 - \eta\lambda)\, W - \eta\, \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon} $$
#
# <details><summary>Hint 1</summary>Compare term by term: what stands under the root, what $m$ and $v$ are divided by, where $\lambda$ stands.</details>
# <details><summary>Hint 2</summary>Return the averages as they are kept, not the corrected ones: the next step corrects them anew.</details>

# %% [markdown] lang="zh"
# 错误共有三处，图中能看出两处。请写出它本该有的样子。约 5 行。
#
# $$ m \leftarrow \beta_1 m + (1 - \beta_1)\, G, \qquad v \leftarrow \beta_2 v + (1 - \beta_2)\, G^2, \qquad
#    W \leftarrow (1 - \eta\lambda)\, W - \eta\, \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon} $$
#
# <details><summary>提示 1</summary>逐项对照：根号下有什么，$m$ 和 $v$ 除以什么，$\lambda$ 出现在哪里。</details>
# <details><summary>提示 2</summary>返回的应是保存下来的平均值，而不是修正后的：下一步会重新修正。</details>

# %% role="answer" id="mend-adam"
import numpy as np


def adamw_step(
    W: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    G: np.ndarray,
    t: int,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the new W, m and v; t = 1 in the first update, when m and v are still zero."""
    # BEGIN SOLUTION (about 5 lines)
    m = beta1 * m + (1 - beta1) * G
    m_hat = m / (1 - beta1**t)
    v = beta2 * v + (1 - beta2) * G**2
    v_hat = v / (1 - beta2**t)
    return (1 - lr * weight_decay) * W - lr * m_hat / (np.sqrt(v_hat) + eps), m, v
    # END SOLUTION


# %% role="check" id="mend-adam-check" points="3"
W, G, zero = np.array([2.0, 2.0, 2.0, 2.0]), np.array([1e-8, -1e-4, 5.0, 0.0]), np.zeros(4)
got = adamw_step(W, zero, zero, G, 1, lr=0.1, weight_decay=0.0)
want = [1.95, 2.09999, 1.9, 2.0]  # the step is lr |G| / (|G| + eps): a half for the first, lr for the next two, 0 for the last
assert np.allclose(got[0], want, atol=1e-6), f"first step, no decay: W is {np.asarray(got[0]).tolist()}, want {want}"
assert np.allclose(got[1], 0.1 * G, rtol=1e-9), f"m is {np.asarray(got[1]).tolist()}, want {(0.1 * G).tolist()}"
assert np.allclose(got[2], 0.001 * G**2, rtol=1e-9, atol=0), (
    f"v is {np.asarray(got[2]).tolist()}, want {(0.001 * G**2).tolist()}"
)
got = adamw_step(W, np.full(4, 0.3), np.full(4, 0.04), np.array([1.0, -1.0, 0.3, 0.0]), 3, lr=0.1, weight_decay=0.5)[0]
want = [1.863069, 1.883032, 1.869717, 1.872715]
assert np.allclose(got, want, atol=1e-5), f"third step, with decay: W is {np.asarray(got).tolist()}, want {want}"
assert W.tolist() == [2.0] * 4 and not zero.any(), "an input array was changed"

# %% [markdown] lang="en" role="solution"
# **Reading the picture.** The plateau at 3.16 is $0.1/\sqrt{0.001}$, the missing correction. The slope on the left is $\epsilon$ under the
# root: $\sqrt{10^{-8}} = 10^{-4}$, ten thousand times the guard that was meant, and gradients below a few thousandths hardly move their
# weight. The third fault needs $W \ne 0$ to be seen, and no error message ever tells of it.

# %% [markdown] lang="zh" role="solution"
# **怎样读这张图。** 高度为 3.16 的平台就是 $0.1/\sqrt{0.001}$，缺了偏差修正。左边的斜坡是因为 $\epsilon$ 放进了根号：$\sqrt{10^{-8}} = 10^{-4}$，
# 是本意的一万倍，于是梯度小于千分之几时，权重几乎不动。第三处错误要在 $W \ne 0$ 时才看得出来，而且从头到尾没有任何报错。

# %% [markdown] lang="en"
# ## Task 3 · Write the test that would have caught it (3 points)
#
# Write `test_adamw`. It gets a step function with the signature of task 2, calls it as often as it likes, returns quietly if it is right,
# and raises an `AssertionError` if it is wrong. Do not compare with your own step: a test that repeats the code repeats its mistakes.
# State what follows from the formulas, for every weight by itself, starting from $m = v = 0$:
#
# - **Length.** While the gradient stays the same, every step is the same (here $\lambda = 0$): $W \leftarrow W - \eta\, G / (|G| + \epsilon)$.
# - **Memory.** After one gradient $G \gg \epsilon$ and then one of 0, the second step is still
#   $-\eta\, \mathrm{sign}(G)\, \frac{\beta_1}{1 + \beta_1} \Big/ \sqrt{\frac{\beta_2}{1 + \beta_2}}$ (again $\lambda = 0$).
# - **Decay.** For any gradient, switching on $\lambda$ adds exactly $-\eta\lambda W$ to the step.
# - **Manners.** No array that was passed in is changed.
#
# About 20 lines.
#
# <details><summary>Hint 1</summary>One array can hold gradients of all sizes: 0, $10^{-8}$, $10^{-2}$, 1, $10^3$, and both signs. Whoever mixes the
# weights is caught at once.</details>
# <details><summary>Hint 2</summary>An inner function `walk(gradients, **settings)` that starts at zero and returns the steps serves three of the four.
# Compare by `np.allclose`; with a learning rate of about 0.1 its default tolerance will do.</details>

# %% [markdown] lang="zh"
# ## 任务 3 · 写一个能抓住这些错误的测试（3 分）
#
# 请写 `test_adamw`。它收到一个与任务 2 签名相同的函数，可以任意多次调用；函数正确，就安静地返回，函数有错，就抛出 `AssertionError`。
# 不要拿自己写的一步来对照：照搬代码的测试，也会照搬代码里的错误。请写出由公式推得的性质，从 $m = v = 0$ 出发，对每个权重单独成立：
#
# - **步长。** 只要梯度保持不变，每一步都一样（此处 $\lambda = 0$）：$W \leftarrow W - \eta\, G / (|G| + \epsilon)$。
# - **记忆。** 先给一个 $G \gg \epsilon$ 的梯度，再给 0，第二步仍是
#   $-\eta\, \mathrm{sign}(G)\, \frac{\beta_1}{1 + \beta_1} \Big/ \sqrt{\frac{\beta_2}{1 + \beta_2}}$（同样 $\lambda = 0$）。
# - **衰减。** 不论梯度是什么，加上 $\lambda$ 之后，这一步恰好多出 $-\eta\lambda W$。
# - **规矩。** 传进去的数组一个也没有被改动。
#
# 约 20 行。
#
# <details><summary>提示 1</summary>一个数组就能容下各种大小的梯度：0、$10^{-8}$、$10^{-2}$、1、$10^3$，正负都有。谁把各个权重混在一起，当场就会被抓住。</details>
# <details><summary>提示 2</summary>写一个内部函数 `walk(gradients, **settings)`，从零出发，返回每一步的位移，四条性质中有三条用得上。
# 用 `np.allclose` 比较；学习率取 0.1 左右，默认的容差就够了。</details>


# %% role="given"
def exchanges_the_betas(W, m, v, G, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01):
    """The memory of the mean and that of the squares are mixed up."""
    return adamw_step(W, m, v, G, t, lr, beta2, beta1, eps, weight_decay)


def counts_from_two(W, m, v, G, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01):
    """The first update is corrected as if it were the second."""
    return adamw_step(W, m, v, G, t + 1, lr, beta1, beta2, eps, weight_decay)


def decays_without_the_rate(W, m, v, G, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01):
    """The decay is not multiplied by the learning rate."""
    return adamw_step(W, m, v, G, t, lr, beta1, beta2, eps, weight_decay / lr)


def works_in_place(W, m, v, G, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01):
    """Right numbers, but the caller's weights are overwritten."""
    W[...], m, v = adamw_step(W, m, v, G, t, lr, beta1, beta2, eps, weight_decay)
    return W, m, v


# %% role="answer" id="property-test"
import numpy as np


def test_adamw(step) -> None:
    """Raise AssertionError unless step(W, m, v, G, t, lr, beta1, beta2, eps, weight_decay) keeps the four properties."""
    # BEGIN SOLUTION (about 20 lines)
    G = np.array([0.0, 1e-8, -1e-2, 1.0, -1e3])
    start = np.array([0.5, -2.0, 1.0, 3.0, -1.0])

    def walk(gradients, **settings):
        W, m, v, places = start, 0 * G, 0 * G, [start]
        for t, now in enumerate(gradients, 1):
            passed = [A.copy() for A in (W, m, v, now)]
            new = step(*passed, t, **settings)
            assert all(np.array_equal(a, b) for a, b in zip(passed, (W, m, v, now))), "an input was changed"
            W, m, v = new
            places.append(W)
        return np.diff(places, axis=0)

    def same(got, want):
        assert np.allclose(got, want), f"got {got.tolist()}, want {np.asarray(want).tolist()}"

    for lr, beta1, beta2 in ((0.1, 0.9, 0.999), (0.5, 0.6, 0.8)):
        settings = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": 1e-8}
        same(walk([G] * 3, weight_decay=0.0, **settings), [-lr * G / (np.abs(G) + 1e-8)] * 3)
        second = walk([G, 0 * G], weight_decay=0.0, **settings)[1]
        ratio = beta1 / (1 + beta1) / np.sqrt(beta2 / (1 + beta2))
        same(second[2:], -lr * np.sign(G[2:]) * ratio)
        same(walk([G], weight_decay=0.7, **settings) - walk([G], weight_decay=0.0, **settings), [-lr * 0.7 * start])
    # END SOLUTION


# %% role="check" id="property-test-check" points="3"
try:
    test_adamw(adamw_step)
except AssertionError as error:
    raise AssertionError(f"your step of task 2: got a refusal ({error}), want none (if task 2 is right)") from error
for bad in (listing, exchanges_the_betas, counts_from_two, decays_without_the_rate, works_in_place):
    try:
        test_adamw(bad)
    except AssertionError:
        continue
    raise AssertionError(f"{bad.__name__}: got no AssertionError, want one ({bad.__doc__})")

# %% [markdown] lang="en" role="solution"
# **Why properties.** A constant gradient cannot tell the two $\beta$ apart, since the correction cancels them; that is what the second
# gradient of 0 is for. Each property is blind somewhere, so it takes several, and each earns its place by a fault that only it sees.
# A test that has never failed has proven nothing: the five wrong steps are the test of your test.

# %% [markdown] lang="zh" role="solution"
# **为什么写性质。** 梯度不变时分不清两个 $\beta$，因为修正把它们约掉了；后面跟一个 0，正是为了这个。每条性质都有看不见的地方，所以要好几条；
# 每一条都应有某个只有它才能发现的错误，否则就是多余的。从未失败过的测试什么也没有证明：那五个错误的函数，就是对你的测试的测试。

# %% [markdown] lang="en"
# ## Task 4 · A schedule that arrives (2 points)
#
# The chapter's cosine would reach $\eta_{\min}$ at update $N$, which is never made. This one arrives. Return the rates of all $N$ updates,
# $t = 0, \dots, N - 1$, as an array:
#
# $$ \eta_t = \eta\, \frac{t+1}{t_w} \;\; (t < t_w), \qquad
#    \eta_t = \eta_{\min} + \frac{\eta - \eta_{\min}}{2} (1 + \cos \pi u_t) \;\; (t \ge t_w) $$
#
# where $u_t$ rises by equal amounts, is 1 at the last update $t = N - 1$, and would be 0 at $t = t_w - 1$, so that the two parts meet at the
# peak. $0 \le t_w \le N$: there may be no warm-up, or nothing else. Constraint: no loop. About 4 lines.
#
# <details><summary>Hint 1</summary>$u_t$ is a straight line through two points that you know. How many updates lie between them?</details>
# <details><summary>Hint 2</summary>`np.where` chooses between two arrays that were both computed whole: no division by 0 in either.</details>

# %% [markdown] lang="zh"
# ## 任务 4 · 真正走到终点的调度（2 分）
#
# 正文的余弦要到第 $N$ 步才降到 $\eta_{\min}$，而这一步并不存在。这里要让它在最后一步就降到。请以数组返回全部 $N$ 步（$t = 0, \dots, N - 1$）的学习率：
#
# $$ \eta_t = \eta\, \frac{t+1}{t_w} \;\; (t < t_w), \qquad
#    \eta_t = \eta_{\min} + \frac{\eta - \eta_{\min}}{2} (1 + \cos \pi u_t) \;\; (t \ge t_w) $$
#
# 其中 $u_t$ 每步增加相同的量，在最后一步 $t = N - 1$ 等于 1，延伸到 $t = t_w - 1$ 处则等于 0，于是两段恰好在峰值处相接。
# $0 \le t_w \le N$：可以没有预热，也可以只有预热。要求：不写循环。约 4 行。
#
# <details><summary>提示 1</summary>$u_t$ 是一条直线，经过两个已知的点。两点之间隔着多少步？</details>
# <details><summary>提示 2</summary>`np.where` 是从两个都已整个算好的数组里挑选，所以哪一个里面都不要除以 0。</details>

# %% role="answer" id="schedule"
import numpy as np


def learning_rates(n_steps: int, lr: float, n_warmup: int = 0, lr_min: float = 0.0) -> np.ndarray:
    """Return the n_steps rates: up to lr at update n_warmup - 1, down to lr_min at update n_steps - 1."""
    # BEGIN SOLUTION (about 4 lines)
    t = np.arange(n_steps)
    u = (t + 1 - n_warmup) / max(n_steps - n_warmup, 1)
    falling = lr_min + (lr - lr_min) / 2 * (1 + np.cos(np.pi * u))
    return np.where(t < n_warmup, lr * (t + 1) / max(n_warmup, 1), falling)
    # END SOLUTION


# %% role="check" id="schedule-check" points="2"
for arguments, want in {
    (6, 0.4, 2): [0.2, 0.4, 0.341421, 0.2, 0.058579, 0.0],
    (5, 1.0, 1, 0.2): [1.0, 0.882843, 0.6, 0.317157, 0.2],
    (3, 0.6, 3): [0.2, 0.4, 0.6],
}.items():
    got = learning_rates(*arguments)
    assert np.shape(got) == (len(want),), f"learning_rates{arguments}: shape {np.shape(got)}, want {(len(want),)}"
    assert np.allclose(got, want, atol=1e-5), f"learning_rates{arguments}: got {np.asarray(got).tolist()}, want {want}"

# %% role="given"
rates = learning_rates(200, 0.1, 20, 0.01)
plots.curves({"yours": rates}, "update", "learning rate", "200 updates, warm-up 20, from 0.1 to 0.01")
plt.show()

# %% [markdown] lang="en" role="solution"
# **Off by one.** With $\eta_{\min} = 0$ the last update of this schedule has the rate 0 and moves nothing; the chapter's stops one short of
# the end instead; others start at 0 and waste the first update. Over 10,000 updates nobody can tell, over the 60 of a short fine-tuning
# run one update is more than a percent. When you report a schedule, report the rates of its first and its last update.

# %% [markdown] lang="zh" role="solution"
# **差一步。** 若 $\eta_{\min} = 0$，这个调度的最后一步学习率为 0，什么也没动；正文的调度则停在终点前一步；还有的从 0 开始，白走第一步。
# 更新一万次时谁也看不出来，短短 60 步的微调，一步就占百分之一以上。报告调度时，请写明第一步和最后一步的学习率。

# %% [markdown] lang="en"
# ## Task 5 · One gradient from many pieces, then clipped (2 + 3 points)
#
# **Accumulate (2 points).** A batch that does not fit into memory is walked in pieces. Piece $k$ holds $n_k$ samples and hands over $G_k$, the
# *mean* gradient of its samples. Derive on paper the factors $c_k$ that give back the gradient of the whole batch, then write the sum:
#
# $$ \nabla \frac1n \sum_{i=1}^{n} L_i = \sum_k c_k\, G_k, \qquad n = \sum_k n_k $$
#
# In a language model the samples are tokens, and padding does not count. So $n_k$ differs from piece to piece, and a piece may be padding
# alone: then $n_k = 0$, its mean is $0/0$, and $G_k$ arrives full of NaN. Leave such a piece out. A NaN in a piece that *does* count must come
# through: hiding it would hide a fault. At least one piece counts. About 2 lines.
#
# <details><summary>Hint 1</summary>Turn each mean back into a sum. What do you divide by in the end?</details>
# <details><summary>Hint 2</summary>`0 * math.nan` is NaN. Ask for $n_k$, not for NaN.</details>

# %% [markdown] lang="zh"
# ## 任务 5 · 把几份梯度拼成一个，再截断（2 + 3 分）
#
# **累积（2 分）。** 内存放不下的一批样本要分成几份来算。第 $k$ 份有 $n_k$ 个样本，交出的 $G_k$ 是这些样本梯度的*平均值*。
# 请先在纸上推导，系数 $c_k$ 取多少才能还原整批样本的梯度，再写出这个和：
#
# $$ \nabla \frac1n \sum_{i=1}^{n} L_i = \sum_k c_k\, G_k, \qquad n = \sum_k n_k $$
#
# 在语言模型里，样本就是词元，填充的位置不算样本。所以各份的 $n_k$ 并不相同，某一份还可能全是填充：这时 $n_k = 0$，平均值是 $0/0$，交上来的 $G_k$ 全是 NaN。
# 这样的一份要略去。但若*算数*的那几份里出现了 NaN，就必须原样传出来：掩盖它，就是掩盖故障。至少有一份算数。约 2 行。
#
# <details><summary>提示 1</summary>先把每个平均值还原成总和。最后该除以什么？</details>
# <details><summary>提示 2</summary>`0 * math.nan` 是 NaN。要问的是 $n_k$，而不是有没有 NaN。</details>

# %% role="answer" id="accumulate"
import numpy as np


def accumulate(pieces: list[tuple[np.ndarray, int]]) -> np.ndarray:
    """Return the mean gradient of all samples from pairs (mean gradient of a piece, its number of samples)."""
    # BEGIN SOLUTION (about 2 lines)
    n = sum(count for _, count in pieces)
    return sum(count / n * G for G, count in pieces if count)
    # END SOLUTION


# %% role="check" id="accumulate-check" points="2"
X, y, w = normal(17, 3), normal(17, seed=1), normal(3, seed=2)  # the loss of a sample is (x.w - y)^2 / 2
each = X * (X @ w - y)[:, None]  # the gradient of each sample
pieces = [(each[:8].mean(axis=0), 8), (each[8:16].mean(axis=0), 8), (each[16:].mean(axis=0), 1)]
got, want = accumulate(pieces), each.mean(axis=0)
assert np.allclose(got, want, atol=1e-12), f"pieces of 8, 8 and 1: got {np.asarray(got).tolist()}, want {want.tolist()}"
got = accumulate([*pieces, (np.full(3, math.nan), 0)])
assert np.allclose(got, want, atol=1e-12), f"and a piece of padding: got {np.asarray(got).tolist()}, want {want.tolist()}"

# %% [markdown] lang="en"
# **Clip (3 points).** The gradient of a network is a dict of arrays. If the norm of *all* of them together exceeds `max_norm`, multiply all
# by one factor; otherwise leave the values alone. Return the new dict and the norm *before* clipping.
#
# $$ \lVert G \rVert = \sqrt{\textstyle\sum_{\text{all arrays}} g^2}, \qquad G \leftarrow G \cdot \min\Bigl(1, \frac{\text{max norm}}{\lVert G \rVert}\Bigr) $$
#
# - A NaN or an infinity anywhere: raise `FloatingPointError`. A shortened NaN would still be NaN.
# - All zeros are a gradient like any other: norm 0, nothing to shorten.
# - Entries may be as large as $10^{300}$ or as small as $10^{-300}$. Their squares are not representable; the norm is.
#
# About 7 lines.
#
# <details><summary>Hint 1</summary>$\lVert G \rVert = a\, \lVert G / a \rVert$. Which $a$ keeps all squares at or below 1?</details>
# <details><summary>Hint 2</summary>`np.max` passes NaN on. Python's `max` and `>` do not: `max(1.0, math.nan)` is 1.0.</details>

# %% [markdown] lang="zh"
# **截断（3 分）。** 网络的梯度是一个由数组组成的字典。若*全部*数组合起来的范数超过 `max_norm`，就把它们统统乘以同一个系数，否则保持数值不变。
# 返回新的字典，以及截断*之前*的范数。
#
# $$ \lVert G \rVert = \sqrt{\textstyle\sum_{\text{all arrays}} g^2}, \qquad G \leftarrow G \cdot \min\Bigl(1, \frac{\text{max norm}}{\lVert G \rVert}\Bigr) $$
#
# - 任何一处出现 NaN 或无穷大，就抛出 `FloatingPointError`。缩短的 NaN 还是 NaN。
# - 全零也是正常的梯度：范数为 0，没有什么要缩短。
# - 数值可能大到 $10^{300}$，也可能小到 $10^{-300}$。它们的平方无法表示，范数却可以。
#
# 约 7 行。
#
# <details><summary>提示 1</summary>$\lVert G \rVert = a\, \lVert G / a \rVert$。$a$ 取多少，所有平方就都不超过 1？</details>
# <details><summary>提示 2</summary>`np.max` 会把 NaN 传下去。Python 的 `max` 和 `>` 不会：`max(1.0, math.nan)` 是 1.0。</details>

# %% role="answer" id="clip"
import math
import numpy as np


def clip(gradients: dict[str, np.ndarray], max_norm: float) -> tuple[dict[str, np.ndarray], float]:
    """Return the clipped gradients and their joint norm before clipping; FloatingPointError for NaN or infinity."""
    # BEGIN SOLUTION (about 7 lines)
    largest = float(np.max([np.abs(G).max() for G in gradients.values()]))
    if not math.isfinite(largest):
        raise FloatingPointError(f"the largest gradient is {largest}")
    if largest == 0:
        return {name: G.copy() for name, G in gradients.items()}, 0.0
    norm = largest * math.sqrt(sum(np.square(G / largest).sum() for G in gradients.values()))
    factor = min(1.0, max_norm / norm)
    return {name: G * factor for name, G in gradients.items()}, norm
    # END SOLUTION


# %% role="check" id="clip-check" points="3"
for given, max_norm, want, norm in (
    ({"W": np.array([[3.0, 0.0]]), "b": np.array([-4.0])}, 1.0, {"W": [[0.6, 0.0]], "b": [-0.8]}, 5.0),
    ({"W": np.array([[3.0, 0.0]]), "b": np.array([-4.0])}, 6.0, {"W": [[3.0, 0.0]], "b": [-4.0]}, 5.0),
    ({"W": np.zeros((1, 2)), "b": np.zeros(1)}, 1.0, {"W": [[0.0, 0.0]], "b": [0.0]}, 0.0),
    ({"W": np.array([[3e200, 0.0]]), "b": np.array([-4e200])}, 1.0, {"W": [[0.6, 0.0]], "b": [-0.8]}, 5e200),
):
    before = {name: G.copy() for name, G in given.items()}
    got, size = clip(given, max_norm)
    assert math.isclose(size, norm, rel_tol=1e-9), f"{before}: got the norm {size}, want {norm}"
    assert set(got) == set(given), f"got the names {sorted(got)}, want {sorted(given)}"
    for name in given:
        assert np.allclose(got[name], want[name], rtol=1e-9, atol=0), (
            f"{name} at max_norm {max_norm}: got {got[name]}, want {want[name]}"
        )
        assert np.array_equal(given[name], before[name]), f"the input {name} was changed from {before[name]} to {given[name]}"
for bad in (math.nan, math.inf):
    try:
        got = clip({"W": np.ones((1, 2)), "b": np.array([1.0, bad])}, 1.0)
    except FloatingPointError:
        continue
    raise AssertionError(f"an entry {bad}: got {got}, want a FloatingPointError")

# %% [markdown] lang="en" role="solution"
# **Mean of means.** With pieces of 8, 8 and 1 the last sample would count for a third instead of a seventeenth, almost six times as
# much as it should. Nothing crashes, the loss falls, and the network is another one; in 2024 this was found in widely used training
# libraries. **Order matters as well:** sum the pieces first, clip once. Clipping each piece bends the direction, since each is shortened
# by a factor of its own.

# %% [markdown] lang="zh" role="solution"
# **平均值的平均值。** 若三份分别有 8、8、1 个样本，最后那个样本的权重会是三分之一，而不是十七分之一，几乎是应有的六倍。程序不会崩溃，损失照样下降，
# 得到的却是另一个网络；2024 年，人们在广泛使用的训练库里发现了这个错误。**次序同样要紧：** 先把各份加起来，再截断一次。逐份截断会使方向偏离，
# 因为各份缩短的系数各不相同。

# %% [markdown] lang="en"
# ## Task 6 · Keep small gradients alive (3 points)
#
# Gradients below about $3 \cdot 10^{-8}$ are 0 in `float16`. So the loss is multiplied by $S$ before the backward pass, and its gradient divided by
# $S$ afterwards. Write what happens in between: `unscale` gets the scaled `float16` gradient, $S$, and the number of good steps in a row so
# far, and returns all three anew.
#
# - **Good** (every entry finite): the gradient becomes $G/S$, in `float32` or wider, and the count rises by 1. When it reaches `n_good`, $S$ is
#   doubled and the count starts again at 0.
# - **Overflow** (a NaN or an infinity): the step must be skipped. Return `None` for the gradient, halve $S$, but never go below 1, and set
#   the count to 0.
#
# About 7 lines.
#
# <details><summary>Hint 1</summary>Divide after the conversion, not before: in `float16` the result would be 0 again.</details>
# <details><summary>Hint 2</summary>The gradient was scaled by the $S$ that came in, whatever $S$ will be next.</details>

# %% [markdown] lang="zh"
# ## 任务 6 · 别让小梯度消失（3 分）
#
# 小于约 $3 \cdot 10^{-8}$ 的梯度在 `float16` 里就是 0。所以先把损失乘以 $S$ 再做反向传播，事后把梯度除以 $S$。请写出中间这一步：
# `unscale` 收到放大后的 `float16` 梯度、$S$，以及到目前为止连续成功的步数，返回这三者的新值。
#
# - **成功**（全部有限）：梯度变为 $G/S$，用 `float32` 或更宽的类型，步数加 1。步数达到 `n_good` 时，$S$ 加倍，步数归零。
# - **溢出**（出现 NaN 或无穷大）：这一步必须跳过。梯度返回 `None`，$S$ 减半，但不得小于 1，步数归零。
#
# 约 7 行。
#
# <details><summary>提示 1</summary>先转换类型再相除，不要反过来：在 `float16` 里，结果又会变成 0。</details>
# <details><summary>提示 2</summary>不论下一步的 $S$ 是多少，这个梯度是按传进来的 $S$ 放大的。</details>

# %% role="answer" id="loss-scaler"
import numpy as np


def unscale(G: np.ndarray, scale: float, good: int, n_good: int) -> tuple[np.ndarray | None, float, int]:
    """Return the gradient (None: skip this step), the next scale, and the number of good steps in a row."""
    # BEGIN SOLUTION (about 7 lines)
    if not np.isfinite(G).all():
        return None, max(scale / 2, 1.0), 0
    G = G.astype(np.float32) / scale
    good += 1
    if good == n_good:
        return G, 2 * scale, 0
    return G, scale, good
    # END SOLUTION


# %% role="check" id="loss-scaler-check" points="3"
tiny = 2.0**-24  # the smallest number above 0 that float16 holds
for entries, scale, good, want in (
    ([1.0, -2.0], 8.0, 0, ([0.125, -0.25], 8.0, 1)),
    ([tiny, 0.0], 2.0**12, 1, ([2.0**-36, 0.0], 2.0**12, 2)),
    ([1.0, -2.0], 8.0, 2, ([0.125, -0.25], 16.0, 0)),
    ([1.0, math.inf], 8.0, 2, (None, 4.0, 0)),
    ([math.nan, 1.0], 2.0, 1, (None, 1.0, 0)),
):
    G, next_scale, next_good = unscale(np.array(entries, dtype=np.float16), scale, good, n_good=3)
    got = (None if G is None else np.asarray(G).tolist(), next_scale, next_good)
    assert got == want, f"gradient {entries}, S = {scale}, {good} good steps of 3:\n got {got}\nwant {want}"

# %% role="given"
updates = np.full(1000, 1e-4)  # each one a healthy number in float16
half, master, path = np.float16(1.0), np.float32(1.0), {"weight in float16": [], "master weight in float32": []}
for update in updates:
    half = np.float16(half - np.float16(update))
    master = np.float32(master - np.float32(update))
    path["weight in float16"].append(float(half))
    path["master weight in float32"].append(float(master))
plots.curves(path, "update", "weight", "a thousand updates of 0.0001")
plt.show()
print(f"float16 ends at {float(half):.4f}, float32 at {float(master):.4f}; spacing of float16 below 1: {2.0**-11:.6f}")

# %% [markdown] lang="en" role="solution"
# **Scaling saves the gradient, not the weight.** Below 1 the numbers of `float16` are $2^{-11} = 0.00049$ apart, and whatever is less than half of
# that is rounded away: a thousand updates, each of them representable, and the weight has not moved. That is why mixed precision keeps a
# master copy of the weights in 32 bits, and only *multiplies* in 16.

# %% [markdown] lang="zh" role="solution"
# **缩放救得了梯度，救不了权重。** 在 1 以下，`float16` 相邻两数的间隔是 $2^{-11} = 0.00049$，不到一半的都会被舍掉：一千次更新，每一次单看都能表示，
# 权重却一动没动。所以混合精度训练要用 32 位保存一份主权重，只有*乘法*用 16 位。

# %% [markdown] lang="en"
# ## Task 7 · Design a run that others carry out (4 points)
#
# Here you do not train. You hand over a plan: `n_steps` learning rates $\eta_t$ and as many momentum coefficients $\mu_t$. The check trains by it
# from $w = 0$ and $V = 0$, and draws the loss of a linear regression:
#
# $$ L(w) = \frac{1}{2B} \sum_{i=1}^{B} (x_i \cdot w - y_i)^2, \qquad V \leftarrow \mu_t V + \nabla L(w), \quad w \leftarrow w - \eta_t V $$
#
# **Goal.** The *excess* loss $L(w) - L_{\min}$ must end at no more than a thousandth of its value at the start. **Budget.** $5 \sqrt\kappa$ updates,
# rounded up, where $\kappa$ is the ratio of the largest and the smallest curvature. The curvatures are the eigenvalues of $X^\top X / B$. Below,
# plain descent at its best constant rate on such a problem: it is nowhere near.

# %% [markdown] lang="zh"
# ## 任务 7 · 设计一次由别人执行的训练（4 分）
#
# 这里你不用训练，只需交出一份计划：`n_steps` 个学习率 $\eta_t$，以及同样多个动量系数 $\mu_t$。检查单元格会照计划从 $w = 0$、$V = 0$ 出发，训练一个线性回归，并画出损失：
#
# $$ L(w) = \frac{1}{2B} \sum_{i=1}^{B} (x_i \cdot w - y_i)^2, \qquad V \leftarrow \mu_t V + \nabla L(w), \quad w \leftarrow w - \eta_t V $$
#
# **目标。** 损失*高出最小值的部分* $L(w) - L_{\min}$，最后不得超过开始时的千分之一。**预算。** $5 \sqrt\kappa$ 步（向上取整），其中 $\kappa$ 是最大与最小曲率之比，
# 曲率就是 $X^\top X / B$ 的特征值。下图是普通梯度下降以最好的固定学习率走这样一个问题：还差得远。


# %% role="given"
def problem(curvatures, n_samples, seed):
    """Data (X, y) of a linear regression with these curvatures; every direction holds the same share of the loss."""
    rng, n = np.random.default_rng(seed), len(curvatures)
    left = np.linalg.qr(rng.normal(size=(n_samples, n)))[0]
    right = np.linalg.qr(rng.normal(size=(n, n)))[0]
    X = math.sqrt(n_samples) * (left * np.sqrt(curvatures)) @ right.T  # X^T X / B has the eigenvalues wanted
    target = right @ (rng.choice([-1.0, 1.0], n) / np.sqrt(curvatures))
    return X, X @ target + 0.1 * rng.normal(size=n_samples)


def carry_out(X, y, lrs, momenta):
    """Train by a plan; the excess loss after 0, 1, ... updates, as a share of that at the start."""
    best = np.linalg.lstsq(X, y, rcond=1e-9)[0]
    w, V = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    excess = [np.square(X @ (w - best)).sum()]
    with np.errstate(all="ignore"):  # a plan may diverge: the number says so
        for lr, momentum in zip(lrs, momenta):
            V = momentum * V + X.T @ (X @ w - y) / len(X)
            w = w - lr * V
            excess.append(np.square(X @ (w - best)).sum())
    return np.array(excess) / excess[0]


curvatures = np.geomspace(0.01, 20.0, 12)  # condition number 2000
X, y = problem(curvatures, 40, seed=0)
n_steps = math.ceil(5 * math.sqrt(2000))
plain = carry_out(X, y, np.full(n_steps, 2 / 20.01), np.zeros(n_steps))
axis = plots.curves(
    {"descent, best constant rate": plain}, "update", "excess loss / start", "condition number 2000", log_y=True
)
axis.axhline(1e-3, color="black", linestyle=":", label="goal")
axis.legend()
plt.show()

# %% [markdown] lang="en"
# Look at $X$ and $y$ as long as you like; what counts is the plan. Two things to mind:
#
# - The features come in any unit, so the curvatures may be millions or millionths.
# - Columns of $X$ may depend on each other. Then some curvatures are 0; computed, they are about $10^{-16}$ of the largest, of either sign. Along
#   these directions nothing moves, and they do not count in $\kappa$. All the others are at least $10^{-5}$ of the largest.
#
# About 6 lines.
#
# <details><summary>Hint 1</summary>Section 3 of the chapter has the best $\eta$ and $\mu$ for a valley whose ends $a_{\min}$ and $a_{\max}$ are known.</details>
# <details><summary>Hint 2</summary>`np.linalg.eigvalsh(X.T @ X / len(X))` gives the curvatures. Drop those below $10^{-9}$ of the largest.</details>

# %% [markdown] lang="zh"
# 你可以随意查看 $X$ 和 $y$，但评分只看计划。有两点要留心：
#
# - 各个特征的单位不限，所以曲率可能是几百万，也可能是百万分之几。
# - $X$ 的列之间可能线性相关。这时有些曲率是 0；算出来大约是最大值的 $10^{-16}$ 倍，可正可负。沿这些方向什么都不会动，也不计入 $\kappa$。其余曲率都不小于最大值的 $10^{-5}$ 倍。
#
# 约 6 行。
#
# <details><summary>提示 1</summary>正文第 3 节给出了两端 $a_{\min}$ 和 $a_{\max}$ 已知时最好的 $\eta$ 和 $\mu$。</details>
# <details><summary>提示 2</summary>`np.linalg.eigvalsh(X.T @ X / len(X))` 给出曲率。不到最大值 $10^{-9}$ 倍的要去掉。</details>

# %% role="answer" id="design"
import numpy as np


def plan(X: np.ndarray, y: np.ndarray, n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return n_steps learning rates and n_steps momentum coefficients; X is (B, in), y is (B,)."""
    # BEGIN SOLUTION (about 6 lines)
    a = np.linalg.eigvalsh(X.T @ X / len(X))
    a = a[a > 1e-9 * a.max()]
    low, high = np.sqrt(a.min()), np.sqrt(a.max())
    lr = (2 / (low + high)) ** 2
    momentum = ((high - low) / (high + low)) ** 2
    return np.full(n_steps, lr), np.full(n_steps, momentum)
    # END SOLUTION


# %% role="check" id="design-check" points="4"
lrs, momenta = plan(X, y, n_steps)
assert np.shape(lrs) == np.shape(momenta) == (n_steps,), f"shapes {np.shape(lrs)}, {np.shape(momenta)}, want {(n_steps,)} twice"
yours = carry_out(X, y, lrs, momenta)
curves = {"descent, best constant rate": plain, "your plan": np.minimum(yours, 1e6)}
axis = plots.curves(curves, "update", "excess loss / start", "condition number 2000", log_y=True)
axis.axhline(1e-3, color="black", linestyle=":", label="goal")
axis.legend()
plt.show()
assert yours[-1] <= 1e-3, f"after {n_steps} updates {yours[-1]:.2g} of the excess loss is left, want at most 0.001"

# %% [markdown] lang="en" role="solution"
# **First up, then down.** The loss rises at first: at the best parameters the two eigenvalues of the steepest and of the flattest direction
# coincide, and the error there goes like $t\,\rho^t$. Then $\sqrt\kappa$ sets the pace and not $\kappa$, a factor of about 45 in updates
# here. Whoever lets the rates change can do better still. With $\mu_t$ and $\eta_t$ computed from the gradients themselves the method is
# called *conjugate gradients*, and in exact arithmetic it needs at most as many updates as there are features. Deep networks seldom use it:
# their curvature changes at every step, and each gradient is a sample.

# %% [markdown] lang="zh" role="solution"
# **先升后降。** 损失起初会上升：参数取最优值时，最陡和最平的两个方向上，各自的两个特征值重合，误差按 $t\,\rho^t$ 变化。之后的快慢由 $\sqrt\kappa$ 而不是 $\kappa$ 决定，
# 在这里步数相差约 45 倍。让学习率逐步变化还能更好：若 $\mu_t$ 和 $\eta_t$ 由梯度本身算出，这就是*共轭梯度法*，不计舍入误差的话，步数最多与特征的个数相同。
# 深度网络很少用它：曲率每一步都在变，而每个梯度都只是一次抽样。

# %% [markdown] lang="en"
# ## Task 8 · A claim to judge (3 points, marked by hand)
#
# A paper writes: "We compare our optimizer Z with Adam on 10,000 test images. Both run with the learning rate 0.01, which we found to be the
# best for Z on these images. Z ends at 98.3 %, Adam at 97.6 %; the intervals of the two numbers do not overlap, so Z is significantly better. Z
# evaluates the gradient twice in each update, but it passes 97.6 % after half as many updates, so it is twice as fast. We ran each once, with the same
# seed." Name the three faults of the comparison, one or two sentences each, and say what should have been done instead.

# %% [markdown] lang="zh"
# ## 任务 8 · 评判一个说法（3 分，人工评分）
#
# 一篇论文写道：“我们在 10,000 张测试图像上比较自己的优化器 Z 和 Adam。二者的学习率都取 0.01，这是我们在这些图像上为 Z 找到的最佳值。Z 最终达到 98.3 %，Adam 为 97.6 %；
# 两个数字的区间没有重叠，所以 Z 显著更好。Z 每次更新要算两次梯度，但只用一半的更新次数就超过了 97.6 %，所以速度是 Adam 的两倍。两种方法各运行一次，随机种子相同。”
# 请指出这个比较的三处毛病，每处写一两句话，并说明本该怎么做。

# %% [markdown] lang="en" role="answer" id="judge-claim" points="3"
# *Tuning* (1 point): the rate was chosen for Z, and on the test images; Adam was given a rate that suits another
# method. Tune both, with the same number of trials, on validation data, and touch the test set once. *Budget* (1 point): half of the updates at
# two gradients each is the same number of gradients, so no gain is shown. Compare at equal gradients, or in seconds measured in one
# run. *Seeds* (1 point): intervals that do not overlap say that these two networks differ on images of this kind, not that the methods
# do: another seed gives other weights and another order. At least three seeds for each, the differences by seed, and a verdict that may be
# "no difference shown".

# %% [markdown] lang="zh" role="answer" id="judge-claim" points="3"
# *调参*（1 分）：学习率是为 Z 选的，而且是在测试图像上选的；Adam 用的是适合别人的学习率。应当两者都调，试的次数相同，用验证集来选，
# 测试集只碰一次。*预算*（1 分）：更新次数减半，每次却算两个梯度，算梯度的总次数并没有变，看不出任何优势。应在梯度次数相等时比较，或者比较同一次运行中测得的秒数。
# *随机种子*（1 分）：区间不重叠，只说明这两个网络在这类图像上有差别，不说明两种方法有差别：换一个种子，初始权重和样本次序就都变了。
# 应当各用至少三个种子，逐个种子求差，再下结论，而结论可以是“看不出差别”。
