# %% [markdown] lang="en"
# # 3.1 · Weight pruning
#
# The document's first method: erase the weights that a network would not miss. We take its rule at its word, find out what it
# can and cannot do, and then build what practice uses: scores, exact counts, patterns, schedules, and files that are smaller
# in bytes and not only on paper.

# %% [markdown] lang="zh"
# # 3.1 · 权重剪枝
#
# 这是原文的第一种方法：把网络用不着的权重去掉。我们先一字不改地照原文的规则做一遍，弄清它能做什么、不能做什么；再一步步搭出实际使用的方法：
# 得分、精确的数量、结构、日程，以及不只在纸面上、而是字节数真正变小的文件。

# %% [markdown] lang="en"
# **After this chapter you can**
#
# - derive which share of the weights the document's rule erases, and explain why nobody can ask it for 90 %;
# - compare magnitude, Taylor and movement scores, per layer and for the whole network, against a random control;
# - prune in N:M blocks, remove whole channels, and predict the multiplications saved;
# - train a pruned network without losing its zeros, gradually or at once, or from its lottery ticket;
# - predict the bytes of sparse files, and say from which sparsity on they pay.
#
# Time: 90 minutes of reading and trying, about half a minute of computing. Memory: 1 GB. Needs: chapter 2.1 (intervals, fair
# comparisons), chapter 2.2 (Adam, warm-up and cosine, `verdict`), and the trained LeNet-300-100 (trained once, in a minute,
# where it is not there yet).

# %% [markdown] lang="zh"
# **学完本章，你能够**
#
# - 推导原文的规则会去掉多少权重，并说明为什么没法要求它剪掉 90 %；
# - 以随机打分为对照，比较绝对值、Taylor、移动三种得分，逐层剪和全网络一起剪都试一试；
# - 按 N:M 分块剪枝、整个通道地剪枝，并预测能省下多少次乘法；
# - 训练剪过的网络而不丢掉那些零：渐进地剪、一次剪完，或者从“彩票”重新开始；
# - 预测稀疏文件的字节数，并说出稀疏度到多少才划算。
#
# 时间：阅读和动手约 90 分钟，计算约半分钟。内存：1 GB。需要：第 2.1 章（区间、公平的比较），第 2.2 章（Adam、预热加余弦、`verdict`），
# 以及训练好的 LeNet-300-100（若还没有，会自动训练一次，约一分钟）。

# %%
import copy
import inspect
import math
import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn

from course_lib import measure, plots, pruning, storage
from course_lib.data import mnist
from course_lib.models import lenet_5, lenet_300_100
from course_lib.optimizers import SGD, Adam
from course_lib.pretrained import trained
from course_lib.training import cross_entropy, train, warmup_cosine
from course_lib.widgets.pruning import threshold_explorer, threshold_values

plots.use_course_style()
torch.set_num_threads(1)

# %%
SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)  # the shares of zeros that curves run over
N_TUNE = 10_000  # training images used for gradients and fine-tuning
BATCH_SIZE = 128
SEEDS = (0, 1, 2)  # of the order of the batches
LEARNING_RATES = (1e-3, 4e-3)  # for the comparison of schedules

# %% [markdown] lang="en"
# ## 1 · The document's rule, literally
#
# "Compute the mean of the absolute values; set to zero each weight whose absolute value is smaller":
#
# $$ w_{ij} \leftarrow 0 \quad\text{if}\quad |w_{ij}| < \frac1n \sum_{k=1}^{n} |w_{ik}| $$
#
# The sum runs over $k$, so the mean belongs to row $i$: the $n$ weights that enter one unit. Written as loops, on a matrix of
# three units with four inputs each:

# %% [markdown] lang="zh"
# ## 1 · 照着原文的规则做一遍
#
# “计算绝对值的平均值；绝对值小于平均值的权重设为 0”：
#
# $$ w_{ij} \leftarrow 0 \quad\text{if}\quad |w_{ij}| < \frac1n \sum_{k=1}^{n} |w_{ik}| $$
#
# 求和是对 $k$ 进行的，所以平均值属于第 $i$ 行，也就是进入同一个单元的那 $n$ 个权重。先用循环写，矩阵有三个单元，每个单元四个输入：

# %%
W = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))  # (out, in)

keep = torch.empty(3, 4, dtype=torch.bool)
for i in range(3):
    mean = sum(abs(float(W[i, k])) for k in range(4)) / 4
    for j in range(4):
        keep[i, j] = not abs(float(W[i, j])) < mean

ax = plots.matrix(W, keep, title="crosses: smaller than the mean of their row")

# %% [markdown] lang="en"
# Each row keeps its largest weight, since a maximum is never below a mean: no unit is cut off. The library does the same
# without loops. Read it (below its docstring), then let the machine agree. Two of its lines guard against rounding: the mean
# of equal numbers can come out one rounding *above* them, and then the whole row would vanish.

# %% [markdown] lang="zh"
# 每一行都留下了最大的那个权重，因为最大值不会小于平均值：没有哪个单元会被彻底切断。库里的写法没有循环。先读源码（文档字符串之后的部分），
# 再让程序确认两者一致。其中有两行是防舍入误差的：一串相等的数，算出的平均值可能恰好比它们*大*一个舍入单位，那样整行都会消失。

# %%
print(inspect.getsource(pruning.mean_threshold_mask).split('"""')[2])
assert keep.equal(pruning.mean_threshold_mask(W))

# %% [markdown] lang="en"
# ## 2 · How many weights go? A prediction
#
# No percentage appears in the rule. The share follows from the *shape* of the distribution. Write $c$ for a factor before the
# mean (1 in the document):
#
# $$ \text{Gaussian: } \mathbb{E}|w| = \sigma\sqrt{2/\pi}, \qquad P\bigl(|w| < c\,\mathbb{E}|w|\bigr) = \mathrm{erf}\bigl(c/\sqrt{\pi}\bigr) $$
#
# $$ \text{Laplace: } |w| \text{ is exponential with mean } \mathbb{E}|w|, \qquad P\bigl(|w| < c\,\mathbb{E}|w|\bigr) = 1 - e^{-c} $$
#
# $$ \text{uniform on } [-a, a]\text{: } \mathbb{E}|w| = a/2, \qquad P\bigl(|w| < c\,\mathbb{E}|w|\bigr) = \min(c/2,\, 1) $$
#
# **Predict before you run on:** put the three in order at $c = 1$. What changes if all weights are ten times larger?
#
# <details><summary>Hint</summary>A distribution with a sharp peak and long tails has many weights below its mean and few far
# above it. And both sides of the comparison scale alike.</details>

# %% [markdown] lang="zh"
# ## 2 · 会剪掉多少？先预测
#
# 规则里没有出现任何百分比，剪掉的比例由分布的*形状*决定。记平均值前的系数为 $c$（原文中为 1）：
#
# $$ \text{Gaussian: } \mathbb{E}|w| = \sigma\sqrt{2/\pi}, \qquad P\bigl(|w| < c\,\mathbb{E}|w|\bigr) = \mathrm{erf}\bigl(c/\sqrt{\pi}\bigr) $$
#
# $$ \text{Laplace: } |w| \text{ is exponential with mean } \mathbb{E}|w|, \qquad P\bigl(|w| < c\,\mathbb{E}|w|\bigr) = 1 - e^{-c} $$
#
# $$ \text{uniform on } [-a, a]\text{: } \mathbb{E}|w| = a/2, \qquad P\bigl(|w| < c\,\mathbb{E}|w|\bigr) = \min(c/2,\, 1) $$
#
# **先猜再运行：** $c = 1$ 时，三种分布（高斯、拉普拉斯、均匀）剪掉的比例由大到小怎么排？如果所有权重都放大十倍，结果会变吗？
#
# <details><summary>提示</summary>峰尖、尾长的分布，大量权重在平均值以下，少数远在平均值之上。另外，比较式的两边同比例放大。</details>

# %%
SHARES = {
    "Gaussian": lambda c: math.erf(c / math.sqrt(math.pi)),
    "Laplace": lambda c: 1 - math.exp(-c),
    "uniform": lambda c: min(c / 2, 1.0),
}
torch.manual_seed(0)
DRAWS = {"Gaussian": torch.distributions.Normal(0, 0.03), "Laplace": torch.distributions.Laplace(0, 0.03)}
DRAWS["uniform"] = torch.distributions.Uniform(-0.03, 0.03)
for name, draw in DRAWS.items():
    sample, predicted = draw.sample((300, 784)), SHARES[name](1)
    for scale in (1, 10):
        measured = 1 - pruning.mean_threshold_mask(scale * sample).double().mean().item()
        ratio = measured / predicted
        print(f"{name:9} x {scale:<3} predicted {predicted:.1%}  measured {measured:.1%}  ratio {ratio:.3f}")
        assert abs(measured - predicted) < 0.0055  # 5 sigma of 235,200 draws

# %% [markdown] lang="en"
# 57.5 %, 63.2 %, 50 %: more than half in two cases of three, and the scale does not matter. That is the rule's charm: it can
# be applied to a layer of tiny weights and to one of large weights without a word about units.

# %% [markdown] lang="zh"
# 57.5 %、63.2 %、50 %：三种里有两种超过一半，而且与尺度无关。这正是这条规则的妙处：权重很小的层和很大的层可以一样对待，不用操心单位。

# %% [markdown] lang="en"
# ## 3 · Which of the three is a real network?
#
# LeNet-300-100 was initialized with Gaussian weights and trained on 60,000 digits. Did training leave them Gaussian?

# %% [markdown] lang="zh"
# ## 3 · 真实的网络像哪一种？
#
# LeNet-300-100 用高斯分布初始化，在 60,000 张数字图像上训练过。训练之后，权重还是高斯分布吗？

# %%
model = trained("lenet_300_100")
digits = mnist(progress=False)
X, labels = digits.test_images, digits.test_labels
tune = digits.subset(N_TUNE)
weights = pruning.prunable_weights(model)  # no biases: they are few, one a unit

dense_accuracy = measure.accuracy(model, X, labels)
low, high = measure.accuracy_interval(round(dense_accuracy * len(labels)), len(labels))
print(f"dense: {dense_accuracy:.2%} of {len(labels):,} test images, 95 % interval [{low:.2%}, {high:.2%}]")

# %%
fig, axes = plt.subplots(1, 3, figsize=(9, 3.2), sharey=True)
u = torch.linspace(-4, 4, 400)  # weight / E|w|
for ax, (name, W) in zip(axes, weights.items()):
    in_units = (W / W.abs().mean()).flatten().numpy()
    ax.hist(in_units, bins=torch.linspace(-4, 4, 60), density=True, color="0.8")
    ax.plot(u, torch.exp(-(u**2) / math.pi) / math.pi, color=plots.COLORS[0], label="Gaussian")
    ax.plot(u, torch.exp(-u.abs()) / 2, color=plots.COLORS[1], linestyle="--", label="Laplace")
    ax.plot(u, (u.abs() <= 2) / 4, color=plots.COLORS[3], linestyle=":", label="uniform")
    share = 1 - pruning.mean_threshold_mask(W).double().mean().item()
    ax.set(title=f"{name} {tuple(W.shape)}\n{share:.1%} below the mean", xlabel="weight / mean magnitude")
    ratios = {kind: round(share / predict(1), 3) for kind, predict in SHARES.items()}
    print(f"{name}: measured / predicted {ratios}")
    nearest = min(SHARES, key=lambda kind: abs(SHARES[kind](1) - share))
    assert nearest == "Gaussian", (name, share)
axes[0].set_ylabel("density")
legend = axes[0].legend(fontsize=8)

# %% [markdown] lang="en"
# Grey: the trained weights in units of their mean magnitude; the lines are the three distributions in the same unit. All
# three layers are nearest to the Gaussian, the large ones with a slightly sharper peak. So the rule will erase about 58 %.

# %% [markdown] lang="zh"
# 灰色是训练后的权重，以各自的平均绝对值为单位；三条线是同样单位下的三种分布。三层都最接近高斯分布，两个大层的峰略尖一些。所以这条规则大约会剪掉 58 %。

# %% [markdown] lang="en"
# ## 4 · The rule on the real network
#
# **Predict:** more than half of 266,200 weights become zero, with no training afterwards. How many points of accuracy does
# that cost: 1, 10 or 50? And if we turn $c$ up until about 90 % are gone?
#
# <details><summary>Hint</summary>The erased half holds the small weights. For a Gaussian, compute which share of the sum of
# squares lies below $0.8\,\sigma$: it is about 11 %.</details>

# %% [markdown] lang="zh"
# ## 4 · 把规则用在真实的网络上
#
# **先猜：** 266,200 个权重中一大半变成零，之后不再训练。准确率会掉几个百分点：1、10 还是 50？如果把 $c$ 调大，直到剪掉约 90 % 呢？
#
# <details><summary>提示</summary>被剪掉的是小的那一半。对高斯分布算一算，平方和中有多少来自 $0.8\,\sigma$ 以内的权重：约 11 %。</details>


# %%
def accuracy_with(masks, network=model):
    """Accuracy on all test images with these masks; the network itself stays as it is."""
    masked = copy.deepcopy(network)
    pruning.attach_masks(masked, masks)
    return measure.accuracy(masked, X, labels)


def share_of_zeros(masks):
    together = torch.cat([mask.flatten() for mask in masks.values()])
    return 1 - together.double().mean().item()


# %%
by_factor = {}
for c in (0.5, 1.0, 1.5, 2.063, 3.0):  # erf(2.063 / sqrt(pi)) = 0.9
    masks = {name: pruning.mean_threshold_mask(W, c) for name, W in weights.items()}
    by_factor[c] = share, right = share_of_zeros(masks), accuracy_with(masks)
    predicted = SHARES["Gaussian"](c)
    print(f"c = {c:<5}  predicted {predicted:6.1%}  measured {share:6.1%}  accuracy {right:.2%}")
more_errors = (1 - by_factor[1.0][1]) / (1 - dense_accuracy)
print(f"c = 1: {100 * (dense_accuracy - by_factor[1.0][1]):.1f} points lost, {more_errors:.2f} times the errors of the dense network")
assert 0.55 < by_factor[1.0][0] < 0.61 and dense_accuracy - 0.03 < by_factor[1.0][1] < low
assert 1.2 < more_errors < 2.5
assert by_factor[2.063][1] < dense_accuracy - 0.2

# %% [markdown] lang="en"
# At $c = 1$, 58 % of the weights are gone and about one point of accuracy with them: little for so many zeros, and yet more
# than chance, since it falls out of the interval of the dense network and means half as many errors again. At $c \approx 2$
# it is ruined, and even then the share is only *near* 90 %: the Gaussian formula is off by what the real distribution is off.
# Whoever wants 90 % must ask another question, "which weights are the smallest 90 %?", and that is a quantile (section 5).
#
# Move the threshold yourself: left the distribution, right the accuracy on 2,000 test images.

# %% [markdown] lang="zh"
# $c = 1$ 时去掉了 58 % 的权重，准确率大约掉一个百分点：零这么多，这点损失不大，但也不是偶然，它已经落在稠密网络的区间之外，错误多了约一半。
# $c \approx 2$ 时它就垮了，而且剪掉的比例也只是*接近* 90 %：真实分布偏离高斯多少，公式就偏多少。
# 想要恰好 90 %，得换个问法：“最小的 90 % 是哪些？”这就是分位数（第 5 节）。
#
# 自己拖动阈值试试：左边是分布，右边是在 2,000 张测试图像上的准确率。

# %%
some = digits.subset(10, 2_000)
threshold_explorer(model, some.test_images, some.test_labels)

# %% [markdown] lang="en"
# The same without moving parts. Left: the band that goes at $c = 1$. Right: over the first half of the weights accuracy sinks
# slowly, by about a point at most; beyond three quarters it falls off a cliff.

# %% [markdown] lang="zh"
# 下面是同一幅图的静态版。左：$c = 1$ 时被剪掉的区间。右：剪掉前一半权重，准确率缓缓下降，至多一个百分点左右；超过四分之三以后，就像跌下悬崖一样。

# %%
fig, (left, right) = plt.subplots(1, 2)
W = weights["0.weight"]
plots.weight_histogram(W, {"c = 1": W.abs().mean().item()}, ax=left)
factors = torch.linspace(0, 3, 13).tolist()
path = [threshold_values(model, some.test_images, some.test_labels, c) for c in factors]
line = [100 * p for p, _ in path], [100 * a for _, a in path]
plots.curves({"c = 0 ... 3": line}, "weights that go (%)", "accuracy (%)", ax=right)
assert path[0][0] == 0 and path[-1][1] < 0.5 < path[0][1]
slope = [path[0][1] - a for p, a in path if p <= 0.5]
print(f"lost with up to half of the weights: at most {100 * max(slope):.1f} points")
assert max(slope) < 0.015

# %% [markdown] lang="en"
# ## 5 · Ask for a number: magnitude, per layer and global
#
# Give each weight a score, $S_{ij} = |w_{ij}|$, and keep the highest; exactly $\mathrm{round}(p\,n)$ go:
#
# $$ \mathrm{keep}_i = [\, \mathrm{rank}(S_i) \ge \mathrm{round}(p\, n) \,] $$
#
# The ranking may be done in each layer by itself (`top_mask`), or once for all layers together (`global_masks`). First by
# hand, with a tie: of two equal scores the earlier goes first, so that everyone gets the same mask.

# %% [markdown] lang="zh"
# ## 5 · 指定数量：按绝对值，逐层或全局
#
# 给每个权重一个得分 $S_{ij} = |w_{ij}|$，留下得分高的；恰好去掉 $\mathrm{round}(p\,n)$ 个：
#
# $$ \mathrm{keep}_i = [\, \mathrm{rank}(S_i) \ge \mathrm{round}(p\, n) \,] $$
#
# 可以每层各排各的（`top_mask`），也可以所有层放在一起排（`global_masks`）。先手算一个带并列的小例子：得分相同的，位置靠前的先去掉，这样谁算都得到同一个掩码。

# %%
score = torch.tensor([0.3, 0.1, 0.3, 0.9, 0.2])
order = sorted(range(5), key=lambda i: (score[i].item(), i))  # by score, then by position
gone = order[: round(0.6 * 5)]
print("go first:", gone, " mask:", pruning.top_mask(score, 0.6).int().tolist())
assert [i not in gone for i in range(5)] == pruning.top_mask(score, 0.6).tolist()

# %% [markdown] lang="en"
# **Predict:** at 90 % zeros, which is better: the same 90 % in each layer, or one threshold for the whole network? The last
# layer has 1,000 weights, the first 235,200.
#
# The control is `random_score`: without it we could not say that magnitude *knows* anything.

# %% [markdown] lang="zh"
# **先猜：** 剪到 90 % 时，哪种更好：每层都剪 90 %，还是全网络用同一个阈值？最后一层有 1,000 个权重，第一层有 235,200 个。
#
# 对照组是 `random_score`：没有它，就说不清绝对值到底*知道*些什么。

# %%
magnitude = {name: pruning.magnitude_score(W) for name, W in weights.items()}
lot = {name: pruning.random_score(W, torch.Generator().manual_seed(0)) for name, W in weights.items()}


def per_layer(scores, p):
    return {name: pruning.top_mask(S, p) for name, S in scores.items()}


sweep = {
    "magnitude, global": [accuracy_with(pruning.global_masks(magnitude, p)) for p in SPARSITIES],
    "magnitude, per layer": [accuracy_with(per_layer(magnitude, p)) for p in SPARSITIES],
    "random, global": [accuracy_with(pruning.global_masks(lot, p)) for p in SPARSITIES],
}


# %%
def show(sweep, title):
    lines = {label: ([100 * p for p in SPARSITIES], [100 * a for a in v]) for label, v in sweep.items()}
    plots.curves(lines, "sparsity (%)", "test accuracy (%)", title)
    for label, values in sweep.items():
        print(f"{label:22}", "  ".join(f"{p:.0%}: {a:.1%}" for p, a in zip(SPARSITIES, values)))


show(sweep, "no training after pruning")
one, layered, chance = (v[SPARSITIES.index(0.9)] for v in sweep.values())
assert one > layered + 0.1 > chance + 0.1
for name, mask in pruning.global_masks(magnitude, 0.9).items():
    print(f"one threshold: {name} {tuple(mask.shape)} loses {1 - mask.double().mean().item():.1%}")

# %% [markdown] lang="en"
# The gap between the upper curves and the lowest is what magnitude knows. The gap between the upper two is where the zeros
# lie: one threshold takes more from the huge first layer and spares the last, whose weights are larger and where each serves
# one of ten answers. No training followed yet; sections 11 and 12 add it.

# %% [markdown] lang="zh"
# 上面两条曲线与最下面一条之间的差距，就是绝对值所“知道”的东西。上面两条之间的差距来自零的分布：全局阈值从庞大的第一层拿走更多，放过最后一层，
# 那里的权重更大，而且每个都直接服务于十个答案之一。到这里还没有再训练，第 11、12 节再加上。

# %% [markdown] lang="en"
# ## 6 · Ask the loss: Taylor
#
# A small weight on a busy input may matter more than a large one on a silent input. The loss knows. Expand it around $w$ and
# let the weight go to zero:
#
# $$ L(w \to 0) - L(w) = -\,w\,g + \tfrac12\, w^2\, \frac{\partial^2 L}{\partial w^2} - \dots, \qquad S = |w\,g| $$
#
# Is the first term any good? Erase 100 weights of the middle layer, one at a time, and compare.

# %% [markdown] lang="zh"
# ## 6 · 去问损失函数：Taylor 得分
#
# 接在活跃输入上的小权重，可能比接在沉寂输入上的大权重更要紧。损失函数知道答案。把它在 $w$ 处展开，再令这个权重为零：
#
# $$ L(w \to 0) - L(w) = -\,w\,g + \tfrac12\, w^2\, \frac{\partial^2 L}{\partial w^2} - \dots, \qquad S = |w\,g| $$
#
# 只取第一项够不够好？从中间层挑 100 个权重，逐个去掉，比一比。

# %%
double = copy.deepcopy(model).double()  # differences of 1e-6 in the loss need it
x, y = tune.train_images[:1000].double(), tune.train_labels[:1000]
H = double[:2](x).detach()  # (1000, 300): what enters the middle layer
loss = cross_entropy(double[2:](H), y)
loss.backward()
W, G = double[2].weight.detach(), double[2].weight.grad
chosen = torch.randperm(W.numel(), generator=torch.Generator().manual_seed(0))[:100]
predicted, measured = (-W * G).flatten()[chosen], torch.zeros(100).double()
for k, i in enumerate(chosen):
    w = W.view(-1)[i].clone()
    W.view(-1)[i] = 0
    measured[k] = cross_entropy(double[2:](H), y).detach() - loss.detach()
    W.view(-1)[i] = w

# %%
correlation = torch.corrcoef(torch.stack([predicted, measured]))[0, 1].item()
fig, ax = plt.subplots(figsize=(5, 3.5))
ax.plot(1e6 * predicted, 1e6 * measured, "o", markersize=4, label="100 weights")
ax.axline((0, 0), slope=1, color="0.5", linestyle="--", label="prediction = measurement")
ax.set(xlabel="first order, -w g (1e-6 nats)", ylabel="change of the loss (1e-6 nats)")
ax.set_title(f"correlation {correlation:.3f}")
ax.legend()
assert correlation > 0.9

# %% [markdown] lang="en"
# For one weight the first order is nearly exact. For many at once two things spoil it: the weights do not go one at a time, and
# at the end of training the *mean* gradient is close to zero, whatever the weight is worth. The usual cure for the second is to
# collect $(w g)^2$ over batches, before the plus and minus of the samples cancel. `weight_gradients` takes the gradients of the
# last `backward()`:

# %% [markdown] lang="zh"
# 对单个权重，一阶近似几乎是准确的。一次去掉许多权重，则有两点要打折扣：权重不是一个一个去掉的；而且训练结束时，*平均*梯度接近零，不管这个权重有多重要。
# 针对第二点，常用的办法是逐批累加 $(w g)^2$，赶在各样本的正负相互抵消之前。`weight_gradients` 取出最近一次 `backward()` 得到的梯度：


# %%
def taylor(n_batches):
    """Root mean square of |w g| over batches of the tuning images; one batch: the mean gradient."""
    network, total = copy.deepcopy(model), dict.fromkeys(weights, 0.0)
    for x, y in zip(tune.train_images.chunk(n_batches), tune.train_labels.chunk(n_batches)):
        network.zero_grad()
        cross_entropy(network(x), y).backward()
        for name, G in pruning.weight_gradients(network).items():
            total[name] = total[name] + pruning.taylor_score(weights[name], G) ** 2
    return {name: (S / n_batches).sqrt() for name, S in total.items()}


scores = {"magnitude": magnitude, "Taylor, mean gradient": taylor(1), "Taylor, 50 batches": taylor(50)}
layerwise = {label: [accuracy_with(per_layer(s, p)) for p in (0.8, 0.9)] for label, s in scores.items()}
for label, values in layerwise.items():
    print(f"{label:22} per layer, 80 and 90 % zeros:", "  ".join(f"{a:.1%}" for a in values))
assert layerwise["Taylor, 50 batches"][0] > layerwise["Taylor, mean gradient"][0] + 0.05

# %% [markdown] lang="en"
# One thing Taylor sees and magnitude cannot: pixels in the corners are black in every training image. Their weights have
# never done anything; their gradient is exactly zero, and so is their score. They still have the size of their initialization.

# %% [markdown] lang="zh"
# 有一件事 Taylor 看得见、绝对值看不见：角落里的像素在所有训练图像中都是黑的，它们的权重从来没起过作用，梯度恰好是零，得分也恰好是零；而它们的大小却还是初始化时的样子。

# %%
black = digits.train_images.amax(dim=0) == 0  # (784,)
masks = {name: torch.ones_like(W, dtype=torch.bool) for name, W in weights.items()}
masks["0.weight"][:, black] = False
half = pruning.global_masks(magnitude, 0.5)["0.weight"][:, black].double().mean().item()
without = accuracy_with(masks)
print(f"{int(black.sum())} black pixels, {300 * int(black.sum()):,} weights; without them {without:.2%}")
print(f"magnitude at 50 % would keep {half:.0%} of them")
assert scores["Taylor, 50 batches"]["0.weight"][:, black].max() == 0
assert abs(without - dense_accuracy) < 0.001

# %% [markdown] lang="en"
# ## 7 · Ask the training: movement
#
# Fine-tuning carries some weights away from zero and others toward it. Movement pruning adds that up, step by step:
#
# $$ S^{(t)} = S^{(t-1)} - w^{(t)} g^{(t)} $$
#
# What is this sum? With gradient descent, $w \leftarrow w - \eta g$, square both sides and add up over the steps:
#
# $$ \eta\, S^{(T)} = \tfrac12 \bigl( w_T^2 - w_0^2 \bigr) - \tfrac12\, \eta^2 \sum_t g_t^2 $$
#
# So, up to the last term, the score is what the square of the weight has *gained*, divided by $2\eta$. The last term only ever
# subtracts, and most where gradients are large and noisy; it is of second order in $\eta$, and the cell prints how small. Let us
# check the identity to the last digits, and then prune by the score.

# %% [markdown] lang="zh"
# ## 7 · 去问训练过程：移动得分
#
# 微调会把一些权重带离零点，把另一些带向零点。移动剪枝（movement pruning）一步一步地把它累加起来：
#
# $$ S^{(t)} = S^{(t-1)} - w^{(t)} g^{(t)} $$
#
# 这个和意味着什么？把梯度下降 $w \leftarrow w - \eta g$ 两边平方，再对各步求和：
#
# $$ \eta\, S^{(T)} = \tfrac12 \bigl( w_T^2 - w_0^2 \bigr) - \tfrac12\, \eta^2 \sum_t g_t^2 $$
#
# 可见撇开最后一项，这个得分就是权重的平方*增加了*多少，再除以 $2\eta$。最后一项只减不增，梯度大、噪声大的地方减得多；它是 $\eta$ 的二阶小量，
# 下面的程序会印出它有多小。我们先把等式核对到最后几位，再按得分来剪。

# %%
lr, moved = 0.05, copy.deepcopy(model)
optimizer = SGD(list(moved.parameters()), lr=lr)
S, squares = dict.fromkeys(weights), dict.fromkeys(weights, 0.0)
for x, y in zip(tune.train_images.split(BATCH_SIZE), tune.train_labels.split(BATCH_SIZE)):
    optimizer.zero_grad()
    cross_entropy(moved(x), y).backward()
    G = pruning.weight_gradients(moved)
    for name, W in pruning.prunable_weights(moved).items():
        S[name] = pruning.movement_score(W, G[name], S[name])
        squares[name] = squares[name] + G[name] ** 2
    optimizer.step()

for name, W in pruning.prunable_weights(moved).items():
    gained = (W**2 - weights[name] ** 2) / 2 - lr**2 * squares[name] / 2
    torch.testing.assert_close(lr * S[name], gained, rtol=0, atol=1e-5)  # 79 float32 steps, |w| < 1
    last_term = (lr**2 * squares[name].sum() / (W**2 - weights[name] ** 2).abs().sum()).item()
    print(f"{name}: the last term is {last_term:.1%} of the change of the squares")
    assert last_term < 0.1

# %% [markdown] lang="en"
# **Predict:** the network was trained to the end before these 79 steps. Will movement beat magnitude, equal it, or lose?
#
# <details><summary>Hint</summary>A weight of 0.8 that shrinks to 0.79 has lost more of its square than any small weight can lose.</details>

# %% [markdown] lang="zh"
# **先猜：** 在这 79 步之前，网络已经训练到头了。移动得分会胜过绝对值，打平，还是不如它？
#
# <details><summary>提示</summary>一个 0.8 的权重缩到 0.79，它的平方减少的量，比任何小权重能减少的都多。</details>

# %%
scores["movement, 79 steps"] = S
by_score = {"magnitude": sweep["magnitude, global"]}
for label in ("Taylor, mean gradient", "Taylor, 50 batches", "movement, 79 steps"):
    by_score[label] = [accuracy_with(pruning.global_masks(scores[label], p)) for p in SPARSITIES]
show(by_score, "one threshold, no training after pruning")
tune_loss = cross_entropy(model(tune.train_images), tune.train_labels).item()
print(f"mean loss on the tuning images: {tune_loss:.4f} nats")

with torch.no_grad():  # p - y, the gradient at the logits, where each image's backward pass begins
    at_logits = model(tune.train_images).softmax(dim=1) - nn.functional.one_hot(tune.train_labels, 10)
pull = at_logits.norm(dim=1).sort(descending=True).values
hard = (pull[: N_TUNE // 20].sum() / pull.sum()).item()
print(f"the hardest 5 % of the images hold {hard:.0%} of the summed gradient norms")
assert hard > 0.5
assert by_score["movement, 79 steps"][0] < by_score["magnitude"][0] - 0.3
assert abs(by_score["magnitude"][0] - by_score["Taylor, 50 batches"][0]) < 0.02

# %% [markdown] lang="en"
# Movement loses, and badly: it does not look at where a weight *stands*, so it erases large ones that drifted a little. Its
# paper uses it for something else: a language model moved to a *new* task, where size only tells of the old one, over many
# thousand steps and with the masks in place. A score is not good or bad in itself; it answers one question.
#
# Taylor is as good as magnitude at 50 %. Beyond that it has a handicap here: the network fits its training images nearly
# perfectly (look at the loss), so most of the gradient comes from a few hard images (the last line of output: one image in
# twenty), and it tells of those. Magnitude costs nothing, needs no data, and stays the baseline to beat.

# %% [markdown] lang="zh"
# 移动得分输了，而且输得很惨：它不看权重*在哪里*，大权重只要稍稍往回漂一点，就被它剪掉了。论文提出它，本来是为了另一件事：把语言模型迁移到*新*任务，
# 这时大小只反映旧任务，而且要带着掩码训练成千上万步。得分本身无所谓好坏，要看它回答的是什么问题。
#
# 剪到 50 % 时 Taylor 与绝对值一样好。剪得再多，它在这里有个不利条件：网络几乎完美地拟合了训练图像（看看损失值），梯度大部分来自少数难认的图像（输出的最后一行：二十张里的一张），反映的也主要是它们。
# 按绝对值打分几乎没有代价，也不需要数据，仍然是有待超越的基线。

# %% [markdown] lang="en"
# ## 8 · Zeros in a pattern: N:M
#
# Hardware wants to know where the zeros are *before* it looks. In 2:4 sparsity each block of four consecutive inputs keeps two:
#
# $$ \mathrm{keep}_{i,\,bm+j} = [\, \mathrm{rank}(S_{i,\,bm+j}) \ge m - n \,] $$
#
# with the rank inside block $b$. Every 1:2 mask is a 2:4 mask, and every 2:4 mask is one of the free masks of 50 %. So the kept
# score can only grow with the freedom. **Predict** how accuracy follows.

# %% [markdown] lang="zh"
# ## 8 · 有规律的零：N:M
#
# 硬件希望在看数据*之前*就知道零在哪里。2:4 稀疏的意思是：每四个相邻的输入为一块，块内留两个：
#
# $$ \mathrm{keep}_{i,\,bm+j} = [\, \mathrm{rank}(S_{i,\,bm+j}) \ge m - n \,] $$
#
# 这里的名次是在第 $b$ 块之内排的。1:2 的掩码都是 2:4 的掩码，2:4 的掩码又都是 50 % 的自由掩码之一，所以自由度越大，留下的得分只增不减。
# **先猜**准确率会怎样跟着变。

# %%
block = torch.tensor([[0.3, -0.9, 0.1, 0.5, 0.2, 0.2, -0.7, 0.4]])  # two blocks of four
keep = []
for b in range(2):
    ranked = sorted(range(4 * b, 4 * b + 4), key=lambda j: (abs(block[0, j].item()), j))
    keep += [j not in ranked[:2] for j in range(4 * b, 4 * b + 4)]
assert keep == pruning.n_m_mask(block.abs(), 2, 4)[0].tolist()
ax = plots.matrix(block, torch.tensor([keep]), title="2:4, crosses go")
ticks = ax.set_yticks([0])

# %%
patterns = {"free 50%": per_layer(magnitude, 0.5), "free 75%": per_layer(magnitude, 0.75)}
for n, m in ((1, 2), (2, 4), (1, 4)):
    patterns[f"{n}:{m}"] = {name: pruning.n_m_mask(S, n, m) for name, S in magnitude.items()}
total = sum(float(S.sum()) for S in magnitude.values())
kept = {}
for label, masks in patterns.items():
    kept[label] = sum(float(magnitude[name][mask].sum()) for name, mask in masks.items()) / total
    zeros, right = share_of_zeros(masks), accuracy_with(masks)
    print(f"{label:9} zeros {zeros:.0%}  kept of the sum of |w| {kept[label]:.1%}  accuracy {right:.2%}")
assert kept["1:2"] < kept["2:4"] < kept["free 50%"] and kept["1:4"] < kept["free 75%"]

# %% [markdown] lang="en"
# 2:4 pays a small price for its regularity, 1:2 a larger one. What it buys: 2 of 4 positions need only 4 bits a block, and
# tensor cores of recent GPUs skip the zeros. A CPU kernel for it does not exist in torch, so we claim no speed here.

# %% [markdown] lang="zh"
# 2:4 为它的规整付出的代价不大，1:2 的代价大一些。换来的好处是：4 个位置里选 2 个，每块只需 4 比特记录；新一代 GPU 的张量核心能跳过这些零。
# torch 没有对应的 CPU 计算内核，所以这里不谈速度。

# %% [markdown] lang="en"
# ## 9 · Zeros that leave: channels
#
# A zero that is still multiplied saves no time. If *all* weights of a unit go, the unit can be cut out, and what remains is an
# ordinary, smaller network. Three tensors shrink together: row $i$ of $W$, entry $i$ of $b$, column $i$ of the next $W'$.
#
# The oracle: the smaller network must equal the full one with those units silent. LeNet-5 has the hard case, a convolution
# whose channels are flattened to 16 columns each before a linear layer:

# %% [markdown] lang="zh"
# ## 9 · 真正消失的零：通道
#
# 仍然要乘一遍的零省不了时间。若一个单元的权重*全部*去掉，就可以把这个单元整个切除，剩下的是一个普通的、更小的网络。有三个张量要一起缩小：
# $W$ 的第 $i$ 行、$b$ 的第 $i$ 项，以及下一层 $W'$ 的第 $i$ 列。
#
# 判断标准：小网络的输出，必须等于原网络把那些单元置零后的输出。LeNet-5 里有最麻烦的情形：卷积的通道展平后接线性层，每个通道占 16 列：

# %%
conv = lenet_5(seed=0)  # layers 1 and 3 are convolutions, 5 flattens, 6 is linear
norm = pruning.channel_scores(conv[3].weight.detach(), norm="l1")
keep = pruning.top_mask(norm, 0.4)  # 30 of 50 channels stay
smaller = pruning.remove_channels(conv, "3", keep)
silent = pruning.zero_channels(conv, "3", keep)
difference = (smaller(X[:50]) - silent(X[:50])).abs().max().item()
print(f"linear layer {tuple(conv[6].weight.shape)} -> {tuple(smaller[6].weight.shape)}")
print(f"largest difference of a logit: {difference:.1e}")
assert difference < 1e-4 and smaller[6].in_features == 30 * 16  # only the order of additions differs

# %% [markdown] lang="en"
# Now LeNet-300-100, and half of the units of both hidden layers. Multiplications are predictable:
#
# $$ \text{MACs} = 784\, n_1 + n_1 n_2 + 10\, n_2, \qquad n_1 = 300 \to 150, \quad n_2 = 100 \to 50 $$
#
# **Predict** the ratio of MACs, then of time. Will time follow?

# %% [markdown] lang="zh"
# 再看 LeNet-300-100，把两个隐藏层各切掉一半单元。乘法次数可以预测：
#
# $$ \text{MACs} = 784\, n_1 + n_1 n_2 + 10\, n_2, \qquad n_1 = 300 \to 150, \quad n_2 = 100 \to 50 $$
#
# **先猜**乘加次数之比，再猜时间之比。时间会跟着变吗？


# %%
def cut(network, keep_1, keep_2):
    return pruning.remove_channels(pruning.remove_channels(network, "0", keep_1), "2", keep_2)


halves = [pruning.top_mask(pruning.channel_scores(model[i].weight.detach()), 0.5) for i in (0, 2)]
smaller = cut(model, *halves)
before, after = (sum(measure.macs(network, X[:1]).values()) for network in (model, smaller))
assert before == 784 * 300 + 300 * 100 + 100 * 10 and after == 784 * 150 + 150 * 50 + 50 * 10
speed = measure.speed_ratio(lambda: model(X[:256]), lambda: smaller(X[:256]), at_least_s=0.01)
print(f"MACs {before:,} -> {after:,}, ratio {before / after:.2f}; time, batch of 256: {speed}")
assert speed.high > 1  # a busy machine can hide a factor of 2, so only a clear loss would be refused

# %% [markdown] lang="en"
# A gain that any machine can use, with no special kernel. Memory traffic and the fixed cost of a call keep time from following
# the MACs exactly. And the accuracy? **Predict:** half the units of the first hidden layer go, by the smallest L2 norm
# $\lVert w_{i,:} \rVert$, or by lot. Which is better?

# %% [markdown] lang="zh"
# 这种收益任何机器都能享受，不需要专门的计算内核。由于访存和函数调用的固定开销，时间不会与乘加次数完全同步。准确率呢？**先猜：** 第一个隐藏层去掉一半单元，
# 可以去掉 L2 范数 $\lVert w_{i,:} \rVert$ 最小的，也可以抽签决定。哪种更好？

# %%
H = model[:2](tune.train_images[:2000]).detach()  # (2000, 300): what the units say
W_next = model[2].weight.detach()  # (100, 300)
norm = pruning.channel_scores(model[0].weight.detach())
first = {
    "L2 norm": pruning.top_mask(norm, 0.5),
    "spread x outgoing norm": pruning.top_mask(H.std(dim=0) * W_next.norm(dim=0), 0.5),
}
for s in range(5):
    lot_score = pruning.random_score(norm, torch.Generator().manual_seed(s))
    first[f"lot {s}"] = pruning.top_mask(lot_score, 0.5)

# %%
cut_accuracy = {}
for label, keep in first.items():
    cut_accuracy[label] = measure.accuracy(pruning.remove_channels(model, "0", keep), X, labels)
by_lot = [a for label, a in cut_accuracy.items() if label.startswith("lot")]
for label, a in cut_accuracy.items():
    print(f"{label:24} {a:.2%}")
assert sum(by_lot) / len(by_lot) > cut_accuracy["L2 norm"]
assert cut_accuracy["spread x outgoing norm"] > cut_accuracy["L2 norm"] + 0.05

# %% [markdown] lang="en"
# On this network the usual score loses to drawing lots, to the mean of five of them; another network may decide otherwise.
# Why here? A cut by lot takes a bit of everything. A cut by norm takes units that are alike, and with them a *constant*:
# their mean output, which the next layer had counted on. Constants can be given back, through the bias of the next layer:
#
# $$ b' \leftarrow b' + \sum_{i \notin K} W'_{:,i}\, \mathbb{E}[h_i] $$
#
# And what remains then is the spread of $h_i$ times the weights that listen to it; that score does well even without the gift.

# %% [markdown] lang="zh"
# 在这个网络上，常用的得分竟然输给了抽签（五次抽签的平均）；换一个网络，结论也许不同。这里为什么会输？抽签是各种单元都拿走一点；按范数拿走的却是彼此相像的单元，连带拿走了一个*常数*：它们的平均输出，而下一层本来是指望着它的。
# 常数可以通过下一层的偏置还回去：
#
# $$ b' \leftarrow b' + \sum_{i \notin K} W'_{:,i}\, \mathbb{E}[h_i] $$
#
# 还了常数之后，剩下的损失就是 $h_i$ 的波动乘以与它相连的那些权重；按这个乘积打分，即使不还常数也表现不错。

# %%
keep = first["L2 norm"]
compensated = pruning.remove_channels(model, "0", keep)
with torch.no_grad():
    compensated[2].bias += W_next[:, ~keep] @ H[:, ~keep].mean(dim=0)
given_back = measure.accuracy(compensated, X, labels)
print(f"L2 norm {cut_accuracy['L2 norm']:.2%}, with the constant given back {given_back:.2%}")
assert given_back > cut_accuracy["L2 norm"] + 0.03

# %% [markdown] lang="en"
# Where a batch norm follows, the norm of the weights says nothing at all: the layer divides by the deviation of each channel,
# so any factor in the weights cancels. There the channel's importance is $|\gamma_i|$ (`batch_norm_scores`); network slimming
# trains with a penalty on $\sum_i |\gamma_i|$ so that whole channels fade out by themselves.

# %% [markdown] lang="zh"
# 如果后面跟着批归一化，权重的范数就完全说明不了问题：它会把每个通道除以各自的标准差，权重里的任何倍数都被抵消。这时通道的重要性由 $|\gamma_i|$ 来衡量（`batch_norm_scores`）；
# network slimming 的办法是在训练时惩罚 $\sum_i |\gamma_i|$，让整个通道自己淡出。

# %%
bn = nn.Sequential(nn.Linear(784, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))
output, scores_before = bn(X[:100]), pruning.channel_scores(bn[0].weight.detach())
with torch.no_grad():
    bn[0].weight[3] *= 10
changed = (bn(X[:100]) - output).abs().max().item()
growth = (pruning.channel_scores(bn[0].weight.detach())[3] / scores_before[3]).item()
print(f"row 3 times 10: its norm is {growth:.0f} times larger, outputs change by {changed:.0e}")
assert changed < 1e-3 and pruning.batch_norm_scores(bn[1].weight.detach()).equal(torch.ones(8))

# %% [markdown] lang="en"
# ## 10 · Masks that survive training
#
# A pruned network should train again. **Predict:** write zeros into the weights, take one step of Adam. How many zeros are left?

# %% [markdown] lang="zh"
# ## 10 · 训练也抹不掉的掩码
#
# 剪过的网络还要接着训练。**先猜：** 把零写进权重，再用 Adam 走一步，还剩多少个零？


# %%
def one_step(network):
    optimizer = Adam(list(network.parameters()), lr=1e-3)
    cross_entropy(network(tune.train_images[:BATCH_SIZE]), tune.train_labels[:BATCH_SIZE]).backward()
    optimizer.step()
    return network


masks = pruning.global_masks(magnitude, 0.9)
written, attached = copy.deepcopy(model), copy.deepcopy(model)
with torch.no_grad():
    for name, mask in masks.items():
        written.get_parameter(name).mul_(mask)
pruning.attach_masks(attached, masks)
for label, network in (("zeros written", written), ("mask attached", attached)):
    zeros = measure.sparsity(network)
    print(f"{label}: {zeros:.1%} zeros, after one step {measure.sparsity(one_step(network)):.1%}")
assert measure.sparsity(attached) > 0.89 > 0.5 > measure.sparsity(written)

# %% [markdown] lang="en"
# Most zeros are gone after a single step; those that are left sit on pixels that were black in the whole batch, so their
# gradient was zero too. The cure is to put the mask *inside* the function that is differentiated. With stored values $V$:
#
# $$ W = M \odot V, \qquad \frac{\partial L}{\partial V} = M \odot \frac{\partial L}{\partial W} $$
#
# Whatever momentum or weight decay do to $V$, $W$ stays zero where $M$ is. `current_masks` reads the masks, `update_masks`
# replaces them, `make_permanent` ends it: an ordinary network with zeros in it and the same outputs.

# %% [markdown] lang="zh"
# 只走一步，大多数零就没了；剩下的那些接在这一批图像中全黑的像素上，它们的梯度也是零。解决的办法是把掩码放到被求导的函数*里面*。记存储的值为 $V$：
#
# $$ W = M \odot V, \qquad \frac{\partial L}{\partial V} = M \odot \frac{\partial L}{\partial W} $$
#
# 无论动量和权重衰减怎样改动 $V$，凡是 $M$ 为零的地方，$W$ 始终是零。`current_masks` 读出掩码，`update_masks` 更换掩码，`make_permanent` 则到此为止：
# 变成一个普通的、含有零的网络，输出不变。

# %%
G = pruning.weight_gradients(attached)
assert all(bool((G[name][~mask] == 0).all()) for name, mask in pruning.current_masks(attached).items())
outputs = attached(X[:10])
pruning.make_permanent(attached)
assert outputs.equal(attached(X[:10])) and attached.state_dict().keys() == model.state_dict().keys()

# %% [markdown] lang="en"
# ## 11 · At once or little by little?
#
# Zhu and Gupta raise the sparsity while training goes on, quickly at first and gently at the end:
#
# $$ p_t = p_f + (p_i - p_f) \Bigl(1 - \frac{t - t_0}{n}\Bigr)^3 $$

# %% [markdown] lang="zh"
# ## 11 · 一次剪完，还是一点一点来？
#
# Zhu 和 Gupta 的做法是边训练边提高稀疏度，开始快，最后慢：
#
# $$ p_t = p_f + (p_i - p_f) \Bigl(1 - \frac{t - t_0}{n}\Bigr)^3 $$

# %%
steps = list(range(81))
by_hand = [0.98 + (0.0 - 0.98) * (1 - min(t / 50, 1)) ** 3 for t in steps]
cubic = [pruning.cubic_sparsity(t, 50, 0.98) for t in steps]
assert max(abs(a - b) for a, b in zip(by_hand, cubic)) < 1e-12
linear = [pruning.linear_sparsity(t, 50, 0.98) for t in steps]
rounds = [pruning.round_sparsity(t // 4) for t in steps]
lines = {"cubic": cubic, "linear": linear, "20 % of what is left, every 4 steps": rounds}
ax = plots.curves(lines, "step", "sparsity due (fraction)")

# %% [markdown] lang="en"
# A fair trial: 98 % zeros, 80 steps for both, the same 3 orders of batches, learning rates that decay alike. One side prunes at
# step 0 and repairs for 80 steps; the other follows the cubic for 50 steps and repairs for 30. **Predict** the winner.
#
# Each side may choose its learning rate, and a choice is not made on the test images: 10,000 training images are held out of this
# fine-tuning (`hold_out`) and choose. The dense network has seen them before, which favours neither side. The test images judge
# once, at the end.
#
# <details><summary>Hint</summary>What is scarce here: good masks, or steps in which the final mask can be repaired?</details>

# %% [markdown] lang="zh"
# 做一次公平的比较：剪到 98 %，双方都训练 80 步，用同样的 3 种批次顺序，学习率按同样的曲线衰减。一方在第 0 步剪完，修复 80 步；另一方按三次曲线剪 50 步，再修复 30 步。
# **先猜**谁赢。
#
# 双方可以各自挑选学习率，而挑选不能用测试图像：从训练图像中留出 10,000 张（`hold_out`），不参加这次微调，专门用来挑选。稠密网络以前见过它们，
# 不过这对双方都一样。测试图像只在最后评判一次。
#
# <details><summary>提示</summary>这里稀缺的是什么：好的掩码，还是用来修复最终掩码的步数？</details>

# %%
few = digits.hold_out(10_000)[1].subset(5_000)  # its test_* are the held-out training images


def magnitude_masks(network, p):
    scores = {name: pruning.magnitude_score(W) for name, W in pruning.prunable_weights(network).items()}
    return pruning.global_masks(scores, p)


def prune_and_tune(gradual, lr, seed, p=0.98, n_steps=80, ramp=50):
    network = copy.deepcopy(model)
    pruning.attach_masks(network, magnitude_masks(network, 0.0 if gradual else p))

    def raise_sparsity(step):
        if gradual and step <= ramp and step % 5 == 0:
            due = pruning.cubic_sparsity(step, ramp, p)
            pruning.update_masks(network, magnitude_masks(network, due))

    how = {"optimizer": Adam(list(network.parameters()), lr=lr), "n_epochs": 2, "batch_size": 125}
    how |= {"schedule": lambda t: warmup_cosine(t, n_steps, lr), "seed": seed, "progress": False}
    train(network, few.train_images, few.train_labels, after_step=raise_sparsity, **how)
    pruning.make_permanent(network)
    assert abs(measure.sparsity(network) - p) < 0.002  # the 410 biases are not pruned
    return network


# %%
networks, held_out = {}, {}
for lr in LEARNING_RATES:
    for way in ("at once", "gradual"):
        networks[way, lr] = [prune_and_tune(way == "gradual", lr, seed) for seed in SEEDS]
        held_out[way, lr] = [measure.accuracy(network, few.test_images, few.test_labels) for network in networks[way, lr]]
        print(f"lr {lr}  {way:8}", "  ".join(f"{a:.1%}" for a in held_out[way, lr]), " of the held-out images")
    verdict = measure.verdict(held_out["gradual", lr], held_out["at once", lr])
    print(f"lr {lr}  gradual against at once: {verdict}")

# %%
best = {way: max(LEARNING_RATES, key=lambda lr, w=way: sum(held_out[w, lr])) for way in ("at once", "gradual")}
final = {way: [measure.accuracy(network, X, labels) for network in networks[way, lr]] for way, lr in best.items()}
for way, accuracies in final.items():
    print(f"test images, {way:8} at its lr {best[way]}:", "  ".join(f"{a:.1%}" for a in accuracies))
    assert best[way] == LEARNING_RATES[1]  # by some 20 points
    assert min(accuracies) > by_score["magnitude"][-1] + 0.3  # 80 steps repair a lot, either way
verdict = measure.verdict(final["gradual"], final["at once"])
print("gradual against at once:", verdict)
assert verdict != "better"

# %% [markdown] lang="en"
# Read all lines before you decide. With the small learning rate the gradual way may look better; both sides choose the larger one,
# at which *both* are much better, and there it is not. Eighty steps are too few for a schedule to pay: the published gains come
# with thousands. A comparison at a single learning rate would have sold you the wrong lesson. What holds in every row: a few
# seconds of training after pruning are worth more than any score.

# %% [markdown] lang="zh"
# 每一行都看完再下结论。学习率小的时候，渐进式看起来也许更好；但双方挑中的都是大的那个，这时*双方*都好得多，而渐进式并不占优。80 步太少，日程发挥不了作用：
# 论文里的收益来自成千上万步。如果只在一个学习率下比较，就会学到错误的结论。每一行都成立的是：剪完之后训练几秒钟，比换任何得分都值。

# %% [markdown] lang="en"
# ## 12 · The lottery ticket
#
# Frankle and Carbin asked: was the small network there from the beginning? Take the mask that training found, and set the
# weights that survive *back to their initial values* (`rewind`):
#
# $$ W \leftarrow M \odot W_0, \qquad b \leftarrow b_0 $$
#
# **Predict:** 10 % of the initial weights, chosen by the mask, not trained at all. Accuracy? (Chance: 10 %.) The control is
# the same mask with another initialization.

# %% [markdown] lang="zh"
# ## 12 · 彩票假设
#
# Frankle 和 Carbin 问：那个小网络是不是一开始就在那里？取训练得到的掩码，把留下的权重*回退到初始值*（`rewind`）：
#
# $$ W \leftarrow M \odot W_0, \qquad b \leftarrow b_0 $$
#
# **先猜：** 只留初始权重的 10 %，由掩码挑选，完全不训练，准确率是多少？（瞎猜是 10 %。）对照组是同一个掩码配上另一次初始化。

# %%
masks = pruning.global_masks(magnitude, 0.9)
untrained, after = {"ticket": [], "other start": []}, {"ticket": [], "other start": []}
for seed in SEEDS:
    # `model` began as lenet_300_100(seed=0)
    for label, start in (("ticket", lenet_300_100(seed=0)), ("other start", lenet_300_100(seed=100 + seed))):
        network = pruning.rewind(model, start.state_dict(), masks)
        untrained[label].append(measure.accuracy(network, X, labels))
        train(network, tune.train_images, tune.train_labels, batch_size=BATCH_SIZE, seed=seed, progress=False)
        after[label].append(measure.accuracy(network, X, labels))

# %%
for label in after:
    print(f"{label:12} untrained", "  ".join(f"{a:.1%}" for a in untrained[label]))
    print(f"{label:12} 79 steps ", "  ".join(f"{a:.1%}" for a in after[label]))
verdict = measure.verdict(after["ticket"], after["other start"])
print("the ticket against another start under the same mask:", verdict)
assert min(untrained["ticket"]) > 0.3 > max(untrained["other start"]) and verdict == "better"

# %%
first_values = lenet_300_100(seed=0).state_dict()
grew = torch.cat([(W.abs() > first_values[name].abs()).flatten() for name, W in weights.items()]).double()
kept = torch.cat([mask.flatten() for mask in masks.values()])
grew_all, grew_kept = grew.mean().item(), grew[kept].mean().item()
print(f"larger after training than before: {grew_kept:.0%} of the kept weights, {grew_all:.0%} of all")
assert grew_kept > grew_all + 0.2

# %% [markdown] lang="en"
# The mask alone, laid over *untrained* weights, already reads digits: nearly all the weights it kept are ones that training
# was going to enlarge. And the ticket learns faster than the same sparse network from another start. Whether it also ends
# higher takes full training and many rounds, which chapter [4.1](04_1_pruning_in_practice.ipynb) begins.

# %% [markdown] lang="zh"
# 仅仅把掩码盖在*未经训练*的权重上，就已经能认数字了：它留下的权重，几乎都是训练将会放大的。而且，“彩票”比同样稀疏、另作初始化的网络学得更快。
# 最终的准确率是否也更高，要靠完整的训练和多轮剪枝来回答，第 [4.1](04_1_pruning_in_practice.ipynb) 章会开始回答。

# %% [markdown] lang="en"
# ## 13 · Bytes: when is a sparse file smaller?
#
# A file must say where the zeros are. For $n$ weights in $r$ rows, density $d = 1 - p$, values of 4 bytes:
#
# $$ \text{dense: } 4n, \qquad \text{bitmask: } \lceil n/8 \rceil + 4dn, \qquad \text{CSR: } 4(r+1) + (2 + 4)\,dn $$
#
# (CSR stores the column of each value, in 2 bytes here, and where each row starts.) **Predict:** from which sparsity on is each
# smaller than dense? And from which on does CSR beat the bitmask?
#
# <details><summary>Hint</summary>Divide by $n$, forget $r$, and solve $1/8 + 4d = 4$; $6d = 4$; $6d = 1/8 + 4d$.</details>

# %% [markdown] lang="zh"
# ## 13 · 字节数：稀疏文件什么时候更小？
#
# 文件必须说明零在哪里。设有 $n$ 个权重、$r$ 行，密度 $d = 1 - p$，每个值 4 字节：
#
# $$ \text{dense: } 4n, \qquad \text{bitmask: } \lceil n/8 \rceil + 4dn, \qquad \text{CSR: } 4(r+1) + (2 + 4)\,dn $$
#
# （三者依次是稠密、位掩码和 CSR。CSR 记录每个值的列号，这里用 2 字节，还记录每行从哪里开始。）**先猜：** 稀疏度到多少时，后两种各自比稠密小？到多少时 CSR 胜过位掩码？
#
# <details><summary>提示</summary>除以 $n$，忽略 $r$，解 $1/8 + 4d = 4$、$6d = 4$、$6d = 1/8 + 4d$。</details>

# %%
CODECS = {"dense": "fp32", "bitmask": "bitmask", "CSR": "csr"}
W = weights["0.weight"]
r, n = W.shape[0], W.numel()
sizes = {name: [] for name in CODECS}
with tempfile.TemporaryDirectory() as folder:
    for p in (0.0, 0.02, 0.1, 0.3, 0.4, 0.5, 0.7, 0.9, 0.95, 0.98):
        pruned = W * pruning.top_mask(W.abs(), p)
        m = int(pruned.count_nonzero())
        predicted = {"dense": 4 * n, "bitmask": -(-n // 8) + 4 * m, "CSR": 4 * (r + 1) + 6 * m}
        for name, codec in CODECS.items():
            path = Path(folder) / name
            size_bytes = storage.save_tensors(path, {"W": pruned}, codec)
            assert size_bytes == path.stat().st_size and storage.load_tensors(path)["W"].equal(pruned)
            assert 0 < size_bytes - predicted[name] < 40  # the header: magic, name, shape, checksum
            sizes[name].append((100 * p, size_bytes / 1000))

# %%
lines = {name: tuple(zip(*points)) for name, points in sizes.items()}
plots.curves(lines, "sparsity (%)", "file (kB)", "first layer, 235,200 weights")
from_mask, from_csr = 1 / 32, 1 - (4 - 4 * (r + 1) / n) / 6  # smaller than dense above these sparsities
csr_wins = 15 / 16 + 2 * (r + 1) / n  # CSR smaller than the bitmask
print(f"break-even: bitmask {from_mask:.1%}, CSR {from_csr:.1%}, CSR against bitmask {csr_wins:.1%}")
for (percent, dense), (_, bits), (_, csr) in zip(*sizes.values()):
    p = percent / 100
    assert (bits < dense) == (p > from_mask) and (csr < dense) == (p > from_csr)
    assert (csr < bits) == (p > csr_wins)

# %% [markdown] lang="en"
# Every file was written, read back and found equal; the formulas are right up to a header of a few dozen bytes. A bitmask pays
# almost at once (3 %), CSR from a third on, and beats the bitmask only above 94 %. Scientific libraries store columns in 4 bytes,
# which moves "a third" to "a half". At 90 % the best of them is 7 to 8 times smaller than dense, and not 10: positions cost.

# %% [markdown] lang="zh"
# 每个文件都写出、读回并确认相等；公式与实际只差一个几十字节的文件头。位掩码几乎一开始（3 %）就划算，CSR 要到三分之一，而且超过 94 % 才胜过位掩码。
# 科学计算库的列号用 4 字节，“三分之一”就变成“一半”。剪到 90 % 时，稠密文件是最小的稀疏文件的 7 到 8 倍，而不是 10 倍：记录位置也要花字节。

# %%
kilobytes = {name: round(dict(points)[90.0]) for name, points in sizes.items()}
ratio = kilobytes["dense"] / min(kilobytes["bitmask"], kilobytes["CSR"])
print(f"at 90 % zeros, kB: {kilobytes}; best ratio {ratio:.2f}")
assert 7 < ratio < 8

# %% [markdown] lang="en"
# ## 14 · Time: when is sparse faster?
#
# **Predict** for a 2048 x 2048 matrix times 32 columns: a dense matrix that is 90 % zeros, against the same matrix without
# zeros? And a CSR matrix, at 50 % and at 99 % zeros?

# %% [markdown] lang="zh"
# ## 14 · 时间：稀疏什么时候更快？
#
# **先猜**：一个 2048 x 2048 的矩阵乘 32 列。90 % 为零的稠密矩阵，比没有零的快多少？换成 CSR 格式，50 % 和 99 % 为零时又如何？

# %%
warnings.filterwarnings("ignore", message="Sparse CSR tensor support")  # torch says that it is a beta
W, V = (torch.randn(2048, k, generator=torch.Generator().manual_seed(k)) for k in (2048, 32))
masked = W * pruning.top_mask(W.abs(), 0.9)
print("dense with 90 % zeros:", measure.speed_ratio(lambda: W @ V, lambda: masked @ V, n_repeats=9))
faster = {}
for p in (0.5, 0.8, 0.9, 0.99):
    pruned = W * pruning.top_mask(W.abs(), p)
    sparse = pruned.to_sparse_csr()
    torch.testing.assert_close(sparse @ V, pruned @ V, rtol=1e-3, atol=1e-3)
    faster[p] = measure.speed_ratio(lambda: W @ V, lambda s=sparse: s @ V, n_repeats=7)
    print(f"CSR, {p:.0%} zeros: {faster[p]}")
assert faster[0.99].high > 1 and faster[0.99].high > faster[0.5].low  # intervals, since machines are busy

# %% [markdown] lang="en"
# Zeros in a dense matrix are multiplied like any other number: no speed-up (the ratio is 1 up to the noise of your machine; look
# at the interval). CSR skips them, but jumps from column to column, and each jump costs more than a multiplication in a row.
# So it needs most of the weights to be zero before it wins; read in your own list where that begins. Structured zeros (section 9) win at once. That is the trade: free choice
# of zeros for bytes, structure for time.

# %% [markdown] lang="zh"
# 稠密矩阵里的零和别的数一样要乘：没有加速（比值在你机器的噪声范围内等于 1，请看区间）。CSR 会跳过零，但要在列之间跳来跳去，每跳一次都比顺着乘一次更贵，
# 所以绝大部分权重都为零时它才划算；从哪里开始，看你自己机器上的那几行。结构化的零（第 9 节）则立竿见影。取舍就在这里：要省字节，零的位置可以自由；要省时间，就得有结构。

# %% [markdown] lang="en"
# ## Summary
#
# - The document's rule erases a share that the distribution decides (57.5 % for a Gaussian), whatever the scale. It cannot be
#   asked for a number; a ranking can.
# - One threshold for the whole network beats the same share per layer. Magnitude is free and hard to beat; Taylor needs data and
#   sees inputs that never speak; movement answers a question about a *new* task.
# - N:M and channels trade freedom for speed. Removing channels is exact surgery; what it takes away is partly a constant, which
#   the next bias can give back.
# - Masks belong inside the differentiated function. A short training after pruning repairs more than any score.
# - Positions cost bytes: bitmask from 3 %, CSR from a third. Zeros in a dense matrix save no time at all.
#
# **Functions used**
#
# - `course_lib.pruning.mean_threshold_mask`
# - `course_lib.pruning.magnitude_score`, `course_lib.pruning.random_score`, `course_lib.pruning.taylor_score`,
#   `course_lib.pruning.movement_score`
# - `course_lib.pruning.top_mask`, `course_lib.pruning.global_masks`, `course_lib.pruning.n_m_mask`
# - `course_lib.pruning.channel_scores`, `course_lib.pruning.batch_norm_scores`, `course_lib.pruning.remove_channels`,
#   `course_lib.pruning.zero_channels`
# - `course_lib.pruning.cubic_sparsity`, `course_lib.pruning.linear_sparsity`, `course_lib.pruning.round_sparsity`
# - `course_lib.pruning.prunable_weights`, `course_lib.pruning.weight_gradients`, `course_lib.pruning.rewind`
# - `course_lib.pruning.attach_masks`, `course_lib.pruning.update_masks`, `course_lib.pruning.current_masks`,
#   `course_lib.pruning.make_permanent`
# - `course_lib.measure.accuracy`, `course_lib.measure.accuracy_interval`, `course_lib.measure.verdict`
# - `course_lib.measure.macs`, `course_lib.measure.sparsity`, `course_lib.measure.speed_ratio`
# - `course_lib.storage.save_tensors`, `course_lib.storage.load_tensors`
# - `course_lib.widgets.pruning.threshold_explorer`, `course_lib.widgets.pruning.threshold_values`,
#   `course_lib.widgets.pruning.threshold_figure`
#
# **Exercises:** [03_1_weight_pruning](../../exercises/en/03_1_weight_pruning.ipynb). **Next:** [3.2 · Quantization](03_2_quantization.ipynb).

# %% [markdown] lang="zh"
# ## 小结
#
# - 原文的规则剪掉多少，由分布决定（高斯分布是 57.5 %），与尺度无关。没法要求它剪到指定的数量；排名可以。
# - 全网络一个阈值，胜过每层同样的比例。绝对值几乎没有代价，很难被超过；Taylor 需要数据，能看出从不活动的输入；移动得分回答的是关于*新*任务的问题。
# - N:M 和通道剪枝用自由换速度。切除通道是精确的手术；它带走的一部分是常数，可以由下一层的偏置还回来。
# - 掩码应放在被求导的函数里面。剪完后的短暂训练，比换任何得分都管用。
# - 记录位置要花字节：位掩码从 3 % 起划算，CSR 从三分之一起。稠密矩阵里的零完全不省时间。
#
# **用到的函数**
#
# - `course_lib.pruning.mean_threshold_mask`
# - `course_lib.pruning.magnitude_score`、`course_lib.pruning.random_score`、`course_lib.pruning.taylor_score`、
#   `course_lib.pruning.movement_score`
# - `course_lib.pruning.top_mask`、`course_lib.pruning.global_masks`、`course_lib.pruning.n_m_mask`
# - `course_lib.pruning.channel_scores`、`course_lib.pruning.batch_norm_scores`、`course_lib.pruning.remove_channels`、
#   `course_lib.pruning.zero_channels`
# - `course_lib.pruning.cubic_sparsity`、`course_lib.pruning.linear_sparsity`、`course_lib.pruning.round_sparsity`
# - `course_lib.pruning.prunable_weights`、`course_lib.pruning.weight_gradients`、`course_lib.pruning.rewind`
# - `course_lib.pruning.attach_masks`、`course_lib.pruning.update_masks`、`course_lib.pruning.current_masks`、
#   `course_lib.pruning.make_permanent`
# - `course_lib.measure.accuracy`、`course_lib.measure.accuracy_interval`、`course_lib.measure.verdict`
# - `course_lib.measure.macs`、`course_lib.measure.sparsity`、`course_lib.measure.speed_ratio`
# - `course_lib.storage.save_tensors`、`course_lib.storage.load_tensors`
# - `course_lib.widgets.pruning.threshold_explorer`、`course_lib.widgets.pruning.threshold_values`、
#   `course_lib.widgets.pruning.threshold_figure`
#
# **练习：** [03_1_weight_pruning](../../exercises/zh/03_1_weight_pruning.ipynb)。**下一章：** [3.2 · 量化](03_2_quantization.ipynb)。

# %% [markdown] lang="en"
# **Sources.** The document, section 3.1. Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural
# Networks", NeurIPS 2015. Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", ICLR 2017,
# and "Importance Estimation for Neural Network Pruning", CVPR 2019. Li et al., "Pruning Filters for Efficient ConvNets", ICLR
# 2017. Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017. Zhu, Gupta, "To Prune, or Not
# to Prune", 2017. Frankle, Carbin, "The Lottery Ticket Hypothesis", ICLR 2019. Zhou et al., "Deconstructing Lottery Tickets",
# NeurIPS 2019 (masks over untrained weights). Sanh, Wolf, Rush, "Movement Pruning", NeurIPS 2020. Blalock et al., "What is the
# State of Neural Network Pruning?", MLSys 2020. Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021.

# %% [markdown] lang="zh"
# **参考文献。** 原文第 3.1 节。Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks"，NeurIPS 2015。
# Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference"，ICLR 2017；"Importance Estimation for Neural Network Pruning"，CVPR 2019。
# Li et al., "Pruning Filters for Efficient ConvNets"，ICLR 2017。Liu et al., "Learning Efficient Convolutional Networks through Network Slimming"，ICCV 2017。
# Zhu, Gupta, "To Prune, or Not to Prune"，2017。Frankle, Carbin, "The Lottery Ticket Hypothesis"，ICLR 2019。
# Zhou et al., "Deconstructing Lottery Tickets"，NeurIPS 2019（在未经训练的权重上盖掩码）。Sanh, Wolf, Rush, "Movement Pruning"，NeurIPS 2020。
# Blalock et al., "What is the State of Neural Network Pruning?"，MLSys 2020。Mishra et al., "Accelerating Sparse Deep Neural Networks"，2021。
