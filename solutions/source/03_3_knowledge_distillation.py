# %% [markdown] lang="en"
# # Exercise 3.3 · Knowledge distillation
#
# Seven tasks, 30 points, about 90 minutes. They belong to chapter [3.3](../../notebooks/en/03_3_knowledge_distillation.ipynb). You build
# Hinton's loss from a softmax upwards, derive its gradient, mend the document's listing, find label smoothing inside distillation, and
# then teach a network of 8,000 parameters that was given almost no labels.
#
# Run the cells from top to bottom. A check cell says nothing when you are right, and shows both values when you are not. The grader calls
# your functions as the checks do, with other numbers, shapes and networks, and judges what they return. Write the formulas yourself:
# `torch.softmax`, `torch.nn.functional` or `course_lib.distillation` would get the marks, but teach you nothing.
#
# What is graded are the answer cells alone: put helpers of your own into them. An answer may use the setup cell's imports and
# helpers and your other answers; the cells of pictures and checks are not there when it is graded.

# %% [markdown] lang="zh"
# # 练习 3.3 · 知识蒸馏
#
# 共七项任务，30 分，约需 90 分钟，对应第 [3.3](../../notebooks/zh/03_3_knowledge_distillation.ipynb) 章。你将从 softmax 开始搭出 Hinton 的损失，推导它的梯度，
# 修好原文的代码，在蒸馏里找到标签平滑，最后教会一个只有 8,000 个参数、几乎得不到标签的网络。
#
# 请从上到下依次运行。答对时检查单元格没有任何输出，答错时会同时给出你的值和正确的值。评分程序调用函数的方式与检查单元格相同，
# 但会换一批数值、形状和网络，只看返回的结果。公式请自己写：直接用 `torch.softmax`、`torch.nn.functional` 或 `course_lib.distillation` 也能得分，却什么也学不到。
#
# 评分时只看作答单元格，自己写的辅助函数也请放在里面。答案可以使用准备单元格中导入的库和函数，以及你的其他答案；画图和检查的单元格在评分时并不存在。

# %% role="setup"
import math

import matplotlib.pyplot as plt
import torch
from course_lib import plots
from course_lib.data import mnist
from course_lib.measure import n_errors, n_parameters, predict
from course_lib.models import mlp
from course_lib.optimizers import Adam
from course_lib.training import train

plots.use_course_style()
torch.set_num_threads(1)


def normal(*shape, seed=0):
    """Gaussian numbers, the same at every run."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# %% [markdown] lang="en"
# ## Task 1 · A softmax that survives (3 points)
#
# Write the soft targets of a batch at temperature $T > 0$, each row a distribution. Logits may be $\pm 10^4$, rows may differ wildly in size, no entry
# may become NaN, and the logits stay as they are. It needs no loop, and `torch.softmax` would spare you the point of the task. About 3 lines.
#
# $$ p^T_{bc} = \frac{e^{v_{bc}/T}}{\sum_k e^{v_{bk}/T}} $$
#
# <details><summary>Hint 1</summary>Adding a constant to all logits of a row changes no share.</details>
# <details><summary>Hint 2</summary>Which constant makes the largest exponent 0? Each row has its own.</details>

# %% [markdown] lang="zh"
# ## 任务 1 · 不会溢出的 softmax（3 分）
#
# 写出一批样本在温度 $T > 0$ 下的软目标，每行是一个分布。logits 可能是 $\pm 10^4$，各行的大小可能相差悬殊，任何一个值都不得变成 NaN，传入的 logits 不得改动。
# 不需要循环；若用 `torch.softmax`，这道题就白做了。约 3 行。
#
# $$ p^T_{bc} = \frac{e^{v_{bc}/T}}{\sum_k e^{v_{bk}/T}} $$
#
# <details><summary>提示 1</summary>给一行的所有 logits 加上同一个常数，份额不变。</details>
# <details><summary>提示 2</summary>加哪个常数能让最大的指数变成 0？每行各不相同。</details>

# %% role="answer" id="softmax"
import torch


def soft_targets(logits: torch.Tensor, T: float) -> torch.Tensor:
    """(B, C) logits -> (B, C) shares at temperature T; each row sums to 1."""
    # BEGIN SOLUTION (about 3 lines)
    X = logits / T
    E = (X - X.max(dim=1, keepdim=True).values).exp()
    return E / E.sum(dim=1, keepdim=True)
    # END SOLUTION


# %% role="check" id="softmax-check" points="3"
given = torch.tensor([[0.0, 2 * math.log(3.0)], [1e4, 1e4], [-1e4, -1e4 + 2 * math.log(3.0)]])
before = given.clone()
got = soft_targets(given, 2)
want = torch.tensor([[0.25, 0.75], [0.5, 0.5], [0.25, 0.75]])
assert torch.allclose(got, want, atol=1e-3), f"at T = 2\n got {got.tolist()}\nwant {want.tolist()}"  # -1e4 has steps of 1e-3
hot, cold = soft_targets(torch.tensor([[3.0, 0.0, 0.0]]), 1e4), soft_targets(torch.tensor([[3.0, 0.0, 0.0]]), 0.01)
assert torch.allclose(hot, torch.full((1, 3), 1 / 3), atol=1e-3), f"very hot: got {hot.tolist()}, want thirds"
assert cold.tolist() == [[1, 0, 0]], f"very cold: got {cold.tolist()}, want [[1, 0, 0]]"
assert torch.equal(given, before), f"the input was changed to {given.tolist()}"

# %% [markdown] lang="en"
# This is your function at work on one row of logits: the same answer, colder and hotter.

# %% [markdown] lang="zh"
# 用你的函数，画出同一行 logits 从低温到高温的软目标：

# %% role="given"
row = torch.tensor([[9.0, 6.0, 1.0, -2.0, 4.0]])
plots.curves({f"T = {T}": soft_targets(row, T)[0] for T in (1, 4, 20)}, xlabel="class", ylabel="share")
plt.show()

# %% [markdown] lang="en" role="solution"
# **Why it survives.** After the row's own maximum is gone, every exponent is at most 0: the largest term is 1, so the sum is at least 1 and
# nothing divides by zero. One maximum for the whole batch would not do: a row far below it would become 0/0.

# %% [markdown] lang="zh" role="solution"
# **为什么不会溢出。** 减去本行的最大值之后，所有指数都不超过 0：最大的一项是 1，总和至少是 1，不会除以零。整批共用一个最大值则不行：
# 远低于它的那一行会变成 0/0。

# %% [markdown] lang="en"
# ## Task 2 · Hinton's loss (6 points)
#
# $$ L_b = (1-\alpha)\,\bigl(-\log \mathrm{softmax}(u_b)_{y_b}\bigr) + \alpha\, T^2 \sum_c p^T_{t,c} \bigl( \log p^T_{t,c} - \log p^T_{s,c} \bigr) $$
#
# Sum over classes; over the batch as `reduction` says: `"batchmean"`, `"sum"`, or `"none"` (one value a sample). The teacher is a constant: no
# gradient may reach its logits. Logits of $\pm 200$ must give the right loss **and** the right gradient, both finite, so a logarithm of a share that has
# become 0 will not do, and neither will a share that is kept from becoming 0. About 10 lines.
#
# <details><summary>Hint 1</summary>Write a helper that returns the logarithm of the shares directly: $x_c - \log \sum_k e^{x_k}$, after taking off the
# maximum.</details>
# <details><summary>Hint 2</summary>The label's entry of each row: `log_p[torch.arange(len(labels)), labels]`. And `detach`.</details>

# %% [markdown] lang="zh"
# ## 任务 2 · Hinton 的损失（6 分）
#
# $$ L_b = (1-\alpha)\,\bigl(-\log \mathrm{softmax}(u_b)_{y_b}\bigr) + \alpha\, T^2 \sum_c p^T_{t,c} \bigl( \log p^T_{t,c} - \log p^T_{s,c} \bigr) $$
#
# 对类别求和；对一批样本则由 `reduction` 决定：`"batchmean"`、`"sum"` 或 `"none"`（每个样本一个值）。教师是常数：梯度不得传到它的 logits。
# logits 为 $\pm 200$ 时，损失**和**梯度都必须有限而且正确，所以不能对已经变成 0 的份额取对数，硬把份额垫高、不让它变成 0 也不行。约 10 行。
#
# <details><summary>提示 1</summary>写一个小函数，直接返回份额的对数：减去最大值之后，$x_c - \log \sum_k e^{x_k}$。</details>
# <details><summary>提示 2</summary>每行取出标签对应的那一项：`log_p[torch.arange(len(labels)), labels]`。还有 `detach`。</details>

# %% role="answer" id="hinton"
import torch


def hinton(student_logits, teacher_logits, labels, alpha: float, T: float, reduction: str = "batchmean") -> torch.Tensor:
    """Hinton's loss of a batch: () for "batchmean" and "sum", (B) for "none"."""
    # BEGIN SOLUTION (about 10 lines)
    def log_shares(logits, T):
        X = logits / T
        X = X - X.max(dim=1, keepdim=True).values.detach()
        return X - X.exp().sum(dim=1, keepdim=True).log()

    log_s, log_t = log_shares(student_logits, T), log_shares(teacher_logits.detach(), T)
    kl = (log_t.exp() * (log_t - log_s)).sum(dim=1)
    label_part = -log_shares(student_logits, 1)[torch.arange(len(labels)), labels]
    losses = (1 - alpha) * label_part + alpha * T**2 * kl
    return {"none": losses, "sum": losses.sum(), "batchmean": losses.mean()}[reduction]
    # END SOLUTION


# %% role="check" id="hinton-check" points="6"
def spelled_out(u, v, y, alpha, T):
    """The formula for one sample, in plain numbers."""
    def share(row, T, c):
        return math.exp(row[c] / T) / sum(math.exp(x / T) for x in row)

    pairs = [(share(v, T, c), share(u, T, c)) for c in range(len(u))]
    return (1 - alpha) * -math.log(share(u, 1, y)) + alpha * T * T * sum(t * math.log(t / s) for t, s in pairs)


U, V, Y = 3 * normal(5, 4, seed=1), 3 * normal(5, 4, seed=2), torch.tensor([0, 3, 1, 1, 2])
for alpha, T in ((0.0, 3.0), (1.0, 1.0), (1.0, 5.0), (0.3, 2.0)):
    want = [spelled_out(*sample, alpha, T) for sample in zip(U.tolist(), V.tolist(), Y.tolist())]
    for reduction, value in (("none", want), ("sum", sum(want)), ("batchmean", sum(want) / 5)):
        got = hinton(U, V, Y, alpha, T, reduction)
        close = torch.allclose(got, torch.tensor(value), rtol=1e-3, atol=1e-4)
        assert got.shape == torch.tensor(value).shape and close, (
            f"alpha {alpha}, T {T}, {reduction}:\n got {got.tolist()}\nwant {value}"
        )
u, v = (200 * X.sign() for X in (U, V))
u, v = u.requires_grad_(), v.requires_grad_()
loss = hinton(u, v, Y, 0.5, 1.0)
assert loss.isfinite(), f"logits of 200: got a loss of {loss.item()}, want a finite one"
loss.backward()
assert u.grad.isfinite().all(), f"logits of 200: got the gradient {u.grad.tolist()}, want finite numbers"
assert v.grad is None or v.grad.abs().max() == 0, f"the teacher got a gradient {v.grad.tolist()}, want none"

# %% [markdown] lang="en" role="solution"
# **Four slips that all look right.** Without $T^2$ the teacher fades as the temperature rises. With a mean over classes the soft part is $C$ times too
# small, which one then "mends" by a larger $\alpha$. With the KL turned round the student may ignore classes. With the label part at temperature $T$
# the student's own confidence is distorted. None of them raises an error; only numbers tell.

# %% [markdown] lang="zh" role="solution"
# **四种看上去都对的错误。** 漏掉 $T^2$，温度一高教师就没了声音。对类别取平均，软损失只剩 $C$ 分之一，于是有人用更大的 $\alpha$ 去“补救”。KL 写反，学生可以对某些类别视而不见。
# 标签部分也用温度 $T$，学生自己的把握就被扭曲。它们都不会报错，只有数值能揭穿。

# %% [markdown] lang="en"
# ## Task 3 · Derive, then implement (5 points)
#
# Derive on paper the gradient of `hinton(..., "batchmean")` by the student's logits, and write it; logits of $\pm 200$ occur here too. Autograd would
# give the same numbers without the derivation, which is what you are here for. About 4 lines.
#
# $$ \frac{\partial L}{\partial u_{bc}} = \; ? $$
#
# <details><summary>Hint 1</summary>$\partial \log p_k / \partial u_c = ([k = c] - p_c)/T$ at temperature $T$. The teacher's shares sum to 1.</details>
# <details><summary>Hint 2</summary>What is left of $T^2$ after one factor $1/T$ has come out? And where does $1/B$ come from?</details>

# %% [markdown] lang="zh"
# ## 任务 3 · 先推导，再实现（5 分）
#
# 在纸上推导 `hinton(..., "batchmean")` 对学生 logits 的梯度，再写出来；这里的 logits 同样可能是 $\pm 200$。自动求导能给出同样的数值，
# 却省掉了推导，而推导正是这道题的目的。约 4 行。
#
# $$ \frac{\partial L}{\partial u_{bc}} = \; ? $$
#
# <details><summary>提示 1</summary>温度为 $T$ 时 $\partial \log p_k / \partial u_c = ([k = c] - p_c)/T$。教师的份额之和为 1。</details>
# <details><summary>提示 2</summary>提出一个 $1/T$ 之后，$T^2$ 还剩什么？$1/B$ 又从何而来？</details>

# %% role="answer" id="gradient"
import torch


def hinton_gradient(student_logits, teacher_logits, labels, alpha: float, T: float) -> torch.Tensor:
    """(B, C): the gradient of hinton(..., "batchmean") by the student's logits, without autograd."""
    # BEGIN SOLUTION (about 4 lines)
    onehot = torch.eye(student_logits.shape[1], dtype=student_logits.dtype)[labels]
    from_labels = soft_targets(student_logits, 1) - onehot
    from_teacher = T * (soft_targets(student_logits, T) - soft_targets(teacher_logits, T))
    return ((1 - alpha) * from_labels + alpha * from_teacher) / len(labels)
    # END SOLUTION


# %% role="check" id="gradient-check" points="5"
U64, V64 = U.double(), V.double()
for alpha, T in ((0.0, 3.0), (1.0, 1.0), (1.0, 5.0), (0.3, 2.0)):
    got = hinton_gradient(U64, V64, Y, alpha, T)
    assert got.shape == U64.shape, f"got the shape {tuple(got.shape)}, want {tuple(U64.shape)}"
    for b in range(5):
        for c in range(4):
            ends = []
            for h in (1e-5, -1e-5):  # central difference: its error is of order h^2, far below 1e-6
                row = U64[b].tolist()
                row[c] += h
                ends.append(spelled_out(row, V64[b].tolist(), int(Y[b]), alpha, T))
            want = (ends[0] - ends[1]) / 2e-5 / 5
            assert abs(got[b, c] - want) < 1e-6, f"alpha {alpha}, T {T}, entry ({b}, {c}): got {got[b, c]:.7f}, want {want:.7f}"

# %% [markdown] lang="en" role="solution"
# **What it says.** $\frac1B \bigl[ (1-\alpha)(p^1_s - \mathrm{onehot}) + \alpha\, T (p^T_s - p^T_t) \bigr]$: both parts pull the student's shares towards a
# target, and training is at rest where the two pulls cancel. Since $p^T_s - p^T_t$ shrinks as $1/T$, the factor $T$ in front keeps the second pull alive.

# %% [markdown] lang="zh" role="solution"
# **它说明了什么。** $\frac1B \bigl[ (1-\alpha)(p^1_s - \mathrm{onehot}) + \alpha\, T (p^T_s - p^T_t) \bigr]$：两部分都把学生的份额拉向某个目标，两股拉力抵消时训练便停下。
# 由于 $p^T_s - p^T_t$ 按 $1/T$ 缩小，前面的因子 $T$ 使第二股拉力不致消失。

# %% [markdown] lang="en"
# ## Task 4 · Mend the listing (5 points)
#
# Listing 4.3, its TensorFlow turned into torch, the undefined names made arguments, and nothing else changed:

# %% [markdown] lang="zh"
# ## 任务 4 · 修好这段代码（5 分）
#
# 下面是代码 4.3：TensorFlow 换成了 torch，没有定义的名字改成了参数，其余未动。


# %% role="given"
def listing(teacher_model, student_model, input_data, labels, learning_rate, temperature=1.0):
    """Listing 4.3, as printed."""
    logits_teacher = teacher_model(input_data)
    logits_student = student_model(input_data)
    loss = torch.nn.functional.cross_entropy(logits_teacher, labels)
    loss = loss + torch.nn.functional.cross_entropy(logits_student / temperature, labels)
    variables = list(student_model.parameters())
    for variable, gradient in zip(variables, torch.autograd.grad(loss, variables)):
        variable.data -= learning_rate * gradient
    return loss


# %% [markdown] lang="en"
# The teacher's own loss on the labels is a constant to the student; the temperature stands on one side; student and teacher are never
# compared. Write the step that was meant: **one** step of gradient descent on `hinton`, student only, mean over the batch. What the student's
# `.grad` holds from before does not enter it. The teacher is asked in eval mode, is left in the mode in which it came, and neither its weights nor
# their `.grad` change. Return the loss before the step, as a number. About 9 lines.
#
# <details><summary>Hint 1</summary>`teacher_model.training` tells the mode; `torch.no_grad()` keeps the teacher out of the graph.</details>
# <details><summary>Hint 2</summary>`torch.autograd.grad(loss, parameters)` gives gradients without touching anyone's `.grad`.</details>

# %% [markdown] lang="zh"
# 教师自己在标签上的损失对学生来说只是常数；温度只用在一边；学生与教师从未作过比较。请写出它本该有的样子：对 `hinton` 做**一步**梯度下降，只更新学生，对一批样本取平均。
# 学生的 `.grad` 里若有以前留下的梯度，不得算进这一步。教师在 eval 模式下作答，之后恢复原来的模式，它的权重和 `.grad` 都不得改变。返回更新前的损失（一个数）。约 9 行。
#
# <details><summary>提示 1</summary>`teacher_model.training` 说明当前模式；`torch.no_grad()` 让教师不进入计算图。</details>
# <details><summary>提示 2</summary>`torch.autograd.grad(loss, parameters)` 给出梯度，而不触碰任何 `.grad`。</details>

# %% role="answer" id="mend-listing"
import torch


def distill_step(teacher_model, student_model, x, labels, lr: float, alpha: float, T: float) -> float:
    """One step of gradient descent on Hinton's loss, in place for the student; returns the loss before it."""
    # BEGIN SOLUTION (about 9 lines)
    mode = teacher_model.training
    teacher_model.eval()
    with torch.no_grad():
        teacher_logits = teacher_model(x)
    teacher_model.train(mode)
    parameters = list(student_model.parameters())
    loss = hinton(student_model(x), teacher_logits, labels, alpha, T)
    with torch.no_grad():
        for W, G in zip(parameters, torch.autograd.grad(loss, parameters)):
            W -= lr * G
    return loss.item()
    # END SOLUTION


# %% role="check" id="mend-listing-check" points="5"
def two_networks(T):
    """A teacher whose soft target of x = (1, 0) is (3/4, 1/4) in eval mode, and a student that knows nothing."""
    layer, student = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    layer.weight.data = torch.tensor([[T * math.log(3.0), 1.0], [0.0, 2.0]])
    for W in (layer.bias, student.weight, student.bias):
        W.data.zero_()
    return torch.nn.Sequential(torch.nn.Dropout(0.9), layer), student


x, label = torch.tensor([[1.0, 0.0]]), torch.tensor([1])
for alpha, T, moved in ((1.0, 4.0, 1.0), (0.5, 4.0, 0.25), (0.0, 4.0, -0.5), (1.0, 1.0, 0.25)):
    some_teacher, student = two_networks(T)
    held = [W.clone() for W in some_teacher.parameters()]
    got_loss = distill_step(some_teacher, student, x, label, 0.5, alpha, T)
    got, want = student.weight.tolist(), [[moved / 2, 0.0], [-moved / 2, 0.0]]
    close = torch.allclose(torch.tensor(got), torch.tensor(want), atol=1e-5)
    assert close, f"alpha {alpha}, T {T}: after one step of lr 0.5 the weights are {got}, want {want}"
    want_loss = (1 - alpha) * math.log(2) + alpha * T * T * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert abs(got_loss - want_loss) < 1e-4, f"alpha {alpha}, T {T}: got a loss of {got_loss}, want {want_loss}"
    for W, old in zip(some_teacher.parameters(), held):
        assert torch.equal(W, old), f"the teacher's weights moved: got {W.tolist()}, want {old.tolist()}"
        assert W.grad is None, f"the teacher has a gradient {W.grad.tolist()}, want None"
    assert some_teacher.training, "the teacher came in training mode and is left in eval mode: got False, want True"

# %% [markdown] lang="en" role="solution"
# **The faults, by their gradients.** The listing's first term has the gradient 0. Its second has $(\mathrm{softmax}(u/T) - \mathrm{onehot})/T$, where no
# teacher occurs: the step that it makes is the same whatever the teacher says. In eval mode matters more than it seems: with dropout on,
# the student is asked to imitate a different teacher at each step.

# %% [markdown] lang="zh" role="solution"
# **从梯度看错误。** 原代码第一项的梯度是 0。第二项的梯度是 $(\mathrm{softmax}(u/T) - \mathrm{onehot})/T$，里面没有教师：不论教师说什么，它迈出的步子都一样。
# eval 模式比看上去重要：若开着 dropout，学生每一步模仿的都是不同的教师。

# %% [markdown] lang="en"
# ## Task 5 · The teacher who knows nothing (4 points)
#
# Label smoothing replaces the label by $(1-\varepsilon)\,\mathrm{onehot} + \varepsilon/C$ and takes the cross-entropy. Compute exactly that value, mean over the
# batch, by **one call** of your `hinton`, a teacher that you build, and a constant. (torch has label smoothing built in; you would get the marks and
# miss the identity.) About 3 lines.
#
# $$ (1-\varepsilon)(-\log p_y) + \frac{\varepsilon}{C} \sum_c (-\log p_c) = (1-\varepsilon)(-\log p_y) + \varepsilon\, \mathrm{KL}(\,?\, \| p) + \;? $$
#
# <details><summary>Hint 1</summary>Which logits have the soft target $1/C$ for each class?</details>
# <details><summary>Hint 2</summary>Cross-entropy = KL + the entropy of the target. What is the entropy of $1/C$?</details>

# %% [markdown] lang="zh"
# ## 任务 5 · 一无所知的教师（4 分）
#
# 标签平滑把标签换成 $(1-\varepsilon)\,\mathrm{onehot} + \varepsilon/C$，再取交叉熵。请只**调用一次**你的 `hinton`，配上你自己构造的教师和一个常数，精确算出这个值（对一批样本取平均）。
# （torch 自带标签平滑，用它也能得分，但就错过了这个恒等式。）约 3 行。
#
# $$ (1-\varepsilon)(-\log p_y) + \frac{\varepsilon}{C} \sum_c (-\log p_c) = (1-\varepsilon)(-\log p_y) + \varepsilon\, \mathrm{KL}(\,?\, \| p) + \;? $$
#
# <details><summary>提示 1</summary>什么样的 logits，软目标对每个类别都是 $1/C$？</details>
# <details><summary>提示 2</summary>交叉熵等于 KL 加上目标的熵。$1/C$ 的熵是多少？</details>

# %% role="answer" id="smoothing"
import math

import torch


def smoothing_by_distillation(student_logits, labels, epsilon: float) -> torch.Tensor:
    """Label smoothing, mean over the batch, as one call of `hinton` and a constant."""
    # BEGIN SOLUTION (about 3 lines)
    nobody = torch.zeros_like(student_logits)
    entropy = math.log(student_logits.shape[1])
    return hinton(student_logits, nobody, labels, alpha=epsilon, T=1) + epsilon * entropy
    # END SOLUTION


# %% role="check" id="smoothing-check" points="4"
for epsilon in (0.0, 0.1, 1.0):
    got = smoothing_by_distillation(U, Y, epsilon)
    want = torch.nn.functional.cross_entropy(U, Y, label_smoothing=epsilon)
    assert torch.allclose(got, want, atol=1e-5), f"epsilon {epsilon}: got {got.item():.6f}, torch has {want.item():.6f}"
wide, one = normal(3, 9, seed=5), torch.tensor([8, 0, 4])
got, want = smoothing_by_distillation(wide, one, 0.3), torch.nn.functional.cross_entropy(wide, one, label_smoothing=0.3)
assert torch.allclose(got, want, atol=1e-5), f"nine classes: got {got.item():.6f}, torch has {want.item():.6f}"

# %% [markdown] lang="en" role="solution"
# **So what is softness worth?** Smoothing and distillation differ in the teacher only: one says nothing about the wrong classes, the other says which of
# them resemble the right one. The chapter measured both at the same budget, and only the second helped.

# %% [markdown] lang="zh" role="solution"
# **“软”本身值多少？** 平滑与蒸馏只差在教师：一个对错误类别什么也没说，另一个说出了哪些与正确类别相像。正文在相同预算下测过两者，只有后者有用。

# %% [markdown] lang="en"
# ## Task 6 · Design: 100 labels, 8,000 parameters (5 points)
#
# A customer has a good teacher, 100 labelled digits, 2,900 digits that nobody labelled, and a chip that holds **8,000 parameters**. Deliver a network
# with **at most 13 % errors** on 2,000 digits that you do not get. The chip computes what `mlp(784, ..., 10)` makes, linear layers with ReLU between
# them, and nothing else. The cell below trains the teacher, and shows what the 100 labels give alone.

# %% [markdown] lang="zh"
# ## 任务 6 · 设计：100 个标签，8,000 个参数（5 分）
#
# 客户有一位好教师、100 张有标签的数字图像、2,900 张没人标注的数字图像，以及一块只装得下 **8,000 个参数**的芯片。请交付一个网络，在 2,000 张你拿不到的图像上**错误率不超过 13 %**。
# 芯片只会计算 `mlp(784, ..., 10)` 造出的网络：线性层，中间夹 ReLU，别无其他。下面的单元格训练教师，并显示只用 100 个标签能做到什么程度。

# %% role="given"
digits = mnist().subset(8000, 2000)
few_images, few_labels, other_images = digits.train_images[:100], digits.train_labels[:100], digits.train_images[100:3000]
teacher = mlp(784, 100, 10, seed=0)
train(teacher, digits.train_images, digits.train_labels, n_epochs=4, batch_size=100, description="teacher")
alone = mlp(784, 10, 10, seed=0)
train(alone, few_images, few_labels, optimizer=Adam(alone.parameters(), lr=5e-3), n_epochs=100, batch_size=50, description="alone")
for name, model in (("teacher", teacher), ("100 labels alone", alone)):
    rate = n_errors(model, digits.test_images, digits.test_labels) / 2000
    print(f"{name:18} {n_parameters(model):7,} parameters, {rate:.1%} errors")

# %% [markdown] lang="en"
# You may use `mlp`, `train`, `Adam`, `predict` and your own functions; all else must come in through the arguments, and the teacher stays as it is. It
# must take less than ten seconds. The grader calls `deliver` for another customer: another 784-100-10 teacher, other images, the ten classes in
# another order. Luck differs from draw to draw, so there 15 % are allowed, on 10,000 digits. About 7 lines.
#
# <details><summary>Hint 1</summary>How many labels does `hinton` need at `alpha=1`? (It wants some, but gives them the weight 0.)</details>
# <details><summary>Hint 2</summary>Ask the teacher once about all 3,000 images: `predict(teacher, ...)`. 784-10-10 has 7,960 parameters.</details>

# %% [markdown] lang="zh"
# 可以使用 `mlp`、`train`、`Adam`、`predict` 以及你自己写的函数；其余一切只能来自参数，教师须保持原样。用时须少于十秒。
# 评分时 `deliver` 面对的是另一位客户：另一位 784-100-10 的教师、另一批图像，十个类别的顺序也不同。抽样有运气成分，所以那里在 10,000 张图像上放宽到 15 %。约 7 行。
#
# <details><summary>提示 1</summary>取 `alpha=1` 时，`hinton` 需要多少标签？（标签必须给，但权重为 0。）</details>
# <details><summary>提示 2</summary>对全部 3,000 张图像只问教师一次：`predict(teacher, ...)`。784-10-10 有 7,960 个参数。</details>

# %% role="answer" id="design"
import torch


def deliver(teacher, few_images, few_labels, other_images) -> torch.nn.Module:
    """A trained network of at most 8,000 parameters."""
    # BEGIN SOLUTION (about 7 lines)
    everything = torch.cat([few_images, other_images])
    teacher_logits = predict(teacher, everything)
    unused = torch.zeros(len(everything), dtype=torch.int64)
    student = mlp(784, 10, 10, seed=0)
    optimizer = Adam(student.parameters(), lr=5e-3)
    train(student, everything, (teacher_logits, unused), loss_fn=lambda u, v, y: hinton(u, v, y, 1.0, 2.0),
          optimizer=optimizer, n_epochs=10, batch_size=100, description="student")
    return student
    # END SOLUTION


# %% role="check" id="design-check" points="5"
teacher_before = [W.clone() for W in teacher.parameters()]
delivered = deliver(teacher, few_images, few_labels, other_images)
size, rate = n_parameters(delivered), n_errors(delivered, digits.test_images, digits.test_labels) / 2000
print(f"{size:,} parameters, {rate:.1%} errors on 2,000 test digits")
kinds = {type(layer).__name__ for layer in delivered.modules() if not list(layer.children())}
assert kinds <= {"Linear", "ReLU", "Dropout"}, f"got layers of the kinds {sorted(kinds)}, want those of mlp: Linear and ReLU"
assert size <= 8000, f"got {size:,} parameters, at most 8,000 fit"
assert rate <= 0.13, f"got {rate:.1%} errors, at most 13.0 % are allowed"
for W, old in zip(teacher.parameters(), teacher_before):
    assert torch.equal(W, old), f"the teacher was changed: a weight is off by {(W - old).abs().max():.3g}, want 0"

# %% [markdown] lang="en" role="solution"
# **Where the gain comes from.** The labels alone leave about three digits of ten wrong; the 2,900 images without labels, answered by the teacher, bring the
# student to within a few per cent of a network ten times its size. Try it with `alpha=1` on the 100 images only, and with the teacher's classes
# instead of its logits on all 3,000: each of the two does a large part of it alone, and neither does all.

# %% [markdown] lang="zh" role="solution"
# **改进从何而来。** 只用标签，十个数字里约有三个认错；让教师为那 2,900 张没有标签的图像作答，学生就与十倍大的网络只差几个百分点。
# 不妨试试只在 100 张图像上用 `alpha=1`，再试试在全部 3,000 张上用教师的类别代替 logits：两者各自都能得到一大半的改进，但都得不到全部。

# %% [markdown] lang="en"
# ## Task 7 · In words (3 points, marked by hand)
#
# A colleague reports: "Distillation works: our student reached 97.1 % with the teacher, the same network had 96.8 % before." Training went on from the
# earlier student for ten more epochs, at $T = 10$ with a library whose loss averages over classes and has no $T^2$; $\alpha = 0.5$; one seed. Name
# three reasons why this shows nothing, say for each what to do, and estimate by what factor the teacher's part was too quiet for ten classes.

# %% [markdown] lang="zh"
# ## 任务 7 · 用文字回答（3 分，人工评分）
#
# 一位同事报告：“蒸馏有效：有教师时学生达到 97.1 %，同一个网络之前是 96.8 %。”实际做法是：从先前的学生继续训练十轮，取 $T = 10$，
# 所用库的损失对类别取平均，而且没有 $T^2$；$\alpha = 0.5$；一个随机种子。请说出三条理由，说明这什么也证明不了，并对每一条说明该怎么做；
# 再估计一下，十个类别时教师那一部分的声音被压低到几分之一。

# %% [markdown] lang="en" role="answer" id="words" points="3"
# 1. *Budgets differ*: ten more epochs would have helped without a teacher too. Train both from the same start for equally many updates.
# 2. *One seed, no interval*: 0.3 points on 10,000 images is one to two standard errors of each rate. Run three seeds or more, and ask for a verdict.
# 3. *The teacher was hardly there*: at $T = 10$ without $T^2$ the soft gradient is of the order of $1/T^2 = 1/100$, and the mean over ten classes
#    divides it by 10 once more: about 1,000 times too quiet. Sum over classes, multiply by $T^2$, and check that the student's gradient changes when
#    the teacher does.

# %% [markdown] lang="zh" role="answer" id="words" points="3"
# 1. *预算不等*：多训练十轮，没有教师也会变好。两者应从同样的起点出发，更新步数相同。
# 2. *只有一个随机种子，没有区间*：10,000 张图像上的 0.3 个百分点，只相当于各自标准误的一两倍。至少跑三个随机种子，再下结论。
# 3. *教师几乎不在场*：$T = 10$ 又没有 $T^2$，软损失的梯度约为 $1/T^2 = 1/100$，对十个类别取平均又除以 10：声音大约只剩 1/1,000。
#    应对类别求和、乘以 $T^2$，并检查换一位教师时学生的梯度是否跟着变。
