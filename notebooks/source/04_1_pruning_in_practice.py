# %% [markdown] lang="en"
# # 4.1 · Pruning in practice
#
# Section 4 of the document turns its formulas into listings. We run the first one as it stands, watch it erase a trained
# network, find out by measuring what is wrong, and mend it. Then come the questions that practice asks: which layer, when, back
# to the start, whole channels, which pattern, and what of all this is faster.

# %% [markdown] lang="zh"
# # 4.1 · 剪枝实践
#
# 原文第 4 节把公式写成了代码。我们先把第一段代码原样运行，看它怎样毁掉一个训练好的网络；再用测量把毛病一个个找出来，改好。
# 然后回答实践中的问题：剪哪一层，什么时候剪，要不要回到起点，能不能整个通道地剪，用什么结构，以及这些做法里到底哪些真的更快。

# %% [markdown] lang="en"
# **After this chapter you can**
#
# - find a fault in a pruning program by measuring, and say which faults an accuracy never shows;
# - scan the sensitivity of each layer, and turn the scan into a sparsity for each layer;
# - compare pruning at once, in rounds and gradually at equal budgets, and judge the result;
# - remove channels from a convolutional network, and predict its multiplications;
# - say when zeros save time on your machine, as a share of what the machine can do;
# - test the lottery ticket hypothesis with both controls, and order columns so that 2:4 keeps more.
#
# Time: 80 minutes of reading and trying, about a minute of computing. Memory: 1 GB. Needs: chapter 3.1 (scores, masks,
# removal), chapter 1 (roofline), chapter 2.2 (`verdict`), and the trained LeNet-300-100 and LeNet-5 (trained once, in a few
# minutes, where they are not there yet).

# %% [markdown] lang="zh"
# **学完本章，你能够**
#
# - 用测量找出剪枝程序里的错误，并说出哪些错误从准确率上永远看不出来；
# - 扫描每一层的敏感度，再由扫描结果定出每一层的稀疏度；
# - 在同样的预算下比较一次剪完、分轮剪和渐进式剪枝，并对结果作出判断；
# - 从卷积网络里移除通道，并预测乘加次数；
# - 说出在你的机器上零什么时候能省时间，占机器所能达到的几成；
# - 带着两个对照组检验彩票假设，并给各列排序，让 2:4 留下更多。
#
# 时间：阅读和动手约 80 分钟，计算约一分钟。内存：1 GB。需要：第 3.1 章（得分、掩码、移除通道），第 1 章（屋顶线），第 2.2 章（`verdict`），
# 以及训练好的 LeNet-300-100 和 LeNet-5（若还没有，会自动训练一次，约几分钟）。

# %%
import copy
import inspect
import warnings

import torch

from course_lib import measure, plots, pruning
from course_lib.data import mnist
from course_lib.measure.roofline import Work, fastest_s, linear_work, measure_machine
from course_lib.models import lenet_300_100
from course_lib.optimizers import Adam
from course_lib.pretrained import trained
from course_lib.training import train, warmup_cosine
from course_lib.widgets.practice_pruning import budget_explorer, budget_figure, budget_values

plots.use_course_style()
torch.set_num_threads(1)

# %%
SPARSITY = 0.95  # of all weights, in the comparisons that train
N_TUNE, BATCH_SIZE = 3_000, 125  # images a training sees, and how many make a step: 24 steps an epoch
SEEDS = (0, 1, 2)  # of the order of the batches; seed 3 only chooses learning rates
LEARNING_RATES = (1e-3, 4e-3)

# %%
model, conv_net = trained("lenet_300_100"), trained("lenet_5")
digits = mnist(progress=False)
X, labels = digits.test_images, digits.test_labels  # 10,000: a small network is judged in a fraction of a second
some = digits.subset(10, 2_000)  # 2,000 test images for whatever is slower
few = digits.hold_out(10_000)[1].subset(N_TUNE, 2_000)  # its test images are held-out *training* images: they may choose

dense = measure.accuracy(model, X, labels)
low, high = measure.accuracy_interval(round(dense * len(labels)), len(labels))
print(f"dense LeNet-300-100: {dense:.2%} of {len(labels):,} test images, 95 % interval [{low:.2%}, {high:.2%}]")

# %% [markdown] lang="en"
# ## 1 · The listing, as it stands
#
# Here is the idea of listing 4.1, in torch, with its faults. It walks over all weights of the network, takes the mean of their
# absolute values, multiplies by a mask, and sets the result. **Predict** before you run it: `pruning_threshold` is 0.5. Which
# share of the weights goes, and what accuracy is left?
#
# <details><summary>Hint</summary>For a Gaussian, chapter 3.1 gave the share below $c$ times the mean:
# $\mathrm{erf}(c/\sqrt{\pi})$. But read the comparison twice.</details>

# %% [markdown] lang="zh"
# ## 1 · 原样运行
#
# 下面是清单 4.1 的思路，改用 torch 来写，错误也都保留：遍历网络的所有权重，求绝对值的平均值，乘上掩码，再写回去。**先猜再运行：**
# `pruning_threshold` 取 0.5，会剪掉多少权重？还剩多少准确率？
#
# <details><summary>提示</summary>对高斯分布，第 3.1 章给出了小于平均值 $c$ 倍的比例：$\mathrm{erf}(c/\sqrt{\pi})$。不过，请把那个比较式读两遍。</details>


# %%
def weight_pruning(network, pruning_threshold):  # listing 4.1, its idea in torch, faults included
    for weight in network.parameters():
        absolute_values = weight.abs().flatten()
        mean_value = absolute_values.mean()
        pruned_weight = weight.flatten() * (absolute_values < pruning_threshold * mean_value)
        weight.set_values(pruned_weight.reshape(weight.shape))


try:
    weight_pruning(copy.deepcopy(model), 0.5)
except AttributeError as error:
    print("AttributeError:", error)
else:
    raise AssertionError("set_values exists after all")

# %% [markdown] lang="en"
# It does not run at all: `set_values` exists neither here nor in the library the listing had in mind. That is the friendliest
# kind of fault, one that speaks. We write the values in place, which is what was meant, and look at the faults that keep
# silent.

# %% [markdown] lang="zh"
# 它根本跑不起来：`set_values` 这个方法，这里没有，清单所设想的库里也没有。会报错的错误是最友善的一种。我们照它的本意把值就地写回去，再来看那些不吭声的错误。


# %%
def prune(network, c, keep_rule, tensors):
    """A copy of the network in which `tensors` keep what keep_rule(W, c) says; also the masks."""
    pruned, masks = copy.deepcopy(network), {}
    for name in tensors:
        W = pruned.get_parameter(name).data
        masks[name] = keep_rule(W, c)
        W.mul_(masks[name])  # what set_values was meant to do
    return pruned, masks


def as_listed(W, c):
    return W.abs() < c * W.abs().mean()


everything = [name for name, _ in model.named_parameters()]
ruined, masks = prune(model, 0.5, as_listed, everything)
kept = sum(int(mask.sum()) for mask in masks.values()) / measure.n_parameters(model)
accuracy = measure.accuracy(ruined, X, labels)
print(f"kept {kept:.1%}, accuracy {accuracy:.2%}")
assert 0.25 < kept < 0.4 and accuracy < 0.2

# %% [markdown] lang="en"
# A network that read 98 % of the digits now guesses (10 % is chance), although a third of its weights are still there. Before
# you read on: which measurement would tell you *why*?

# %% [markdown] lang="zh"
# 原来能认对 98 % 的网络，现在等于瞎猜（10 % 就是碰运气），而权重明明还剩三分之一。往下读之前想一想：该测什么，才能知道*为什么*？

# %% [markdown] lang="en"
# ## 2 · First fault: the mask is turned round
#
# Do not stare at the program; look at what it left. If pruning works, everything that stayed is at least as large as everything
# that went:
#
# $$ \min_{\text{stayed}} |w| \;\ge\; \max_{\text{went}} |w| $$

# %% [markdown] lang="zh"
# ## 2 · 错误一：掩码反了
#
# 不要盯着程序看，去看它留下了什么。剪枝若是对的，留下的权重都不应小于被去掉的：
#
# $$ \min_{\text{stayed}} |w| \;\ge\; \max_{\text{went}} |w| $$

# %%
W, mask = model[0].weight.data, masks["0.weight"]
mean = W.abs().mean().item()
largest_kept, smallest_gone = W[mask].abs().max().item() / mean, W[~mask].abs().min().item() / mean
energy = (W[mask].square().sum() / W.square().sum()).item()
print(f"in units of the mean: the largest that stayed {largest_kept:.5f}, the smallest that went {smallest_gone:.5f}")
print(f"{mask.double().mean():.0%} of the weights stayed, with {energy:.1%} of the sum of squares")
assert largest_kept < 0.5 <= smallest_gone and energy < 0.05

# %% [markdown] lang="en"
# It is the other way round. The mask is `True` where the weight is *small*, and multiplying by it keeps the small ones: a third
# of the weights, with less than a twentieth of the sum of squares. The document's own section 3.1 says it right ("set to zero
# where smaller"). One character mends it:

# %% [markdown] lang="zh"
# 结果恰好相反。掩码在权重*小*的地方为 `True`，乘上去留下的正是小的：个数占三分之一，平方和却不到二十分之一。原文第 3.1 节的说法是对的（“小于平均值则设为 0”）。改一个符号就好：


# %%
def turned(W, c):
    return W.abs() >= c * W.abs().mean()


mended, turned_masks = prune(model, 0.5, turned, everything)
kept = sum(int(mask.sum()) for mask in turned_masks.values()) / measure.n_parameters(model)
accuracy = measure.accuracy(mended, X, labels)
print(f"kept {kept:.1%}, accuracy {accuracy:.2%}, {100 * (dense - accuracy):.2f} points below the dense network")
assert all(mask.equal(~turned_masks[name]) for name, mask in masks.items()) and accuracy > dense - 0.005
assert 0.6 < kept < 0.75

# %% [markdown] lang="en"
# From chance to within half a point of the dense network, at twice as many weights as before. If accuracy were our only
# instrument we would stop here, and two faults would stay in.

# %% [markdown] lang="zh"
# 从瞎猜回到与稠密网络相差不到半个百分点，留下的权重也是刚才的两倍。如果我们只会看准确率，到这里就收工了，而另外两个错误会一直留在里面。

# %% [markdown] lang="en"
# ## 3 · Second fault: whose mean?
#
# Section 3.1 of the document takes the mean over row $i$, the weights that enter one unit; the listing takes one mean for the
# whole tensor. From here on no biases are pruned (section 4). **Predict:** does the difference show?

# %% [markdown] lang="zh"
# ## 3 · 错误二：谁的平均值？
#
# 原文第 3.1 节对第 $i$ 行求平均，也就是进入同一个单元的权重；清单却对整个张量求一个平均值。从这里起不再剪偏置（见第 4 节）。**先猜：** 这个差别看得出来吗？

# %%
by_row, _ = prune(model, 0.5, pruning.mean_threshold_mask, pruning.prunable_weights(model))
by_tensor, _ = prune(model, 0.5, turned, pruning.prunable_weights(model))
logits = {"row": measure.predict(by_row, X), "tensor": measure.predict(by_tensor, X)}
for name, u in logits.items():
    print(f"mean of the {name}: {(u.argmax(1) == labels).double().mean():.2%}")
verdict = measure.verdict_on_test_set(logits["row"], logits["tensor"], labels)
print("row against tensor:", verdict)
assert abs(measure.accuracy(by_row, X, labels) - measure.accuracy(by_tensor, X, labels)) < 0.005

# %% [markdown] lang="en"
# It does not show here: the rows of this network are of similar size. So is it a fault at all? Construct a case. With a ReLU, a
# unit may speak ten times louder if the next layer listens ten times less:
#
# $$ w' \,\mathrm{relu}(a\, u) = (a\, w')\, \mathrm{relu}(u), \qquad a > 0 $$
#
# The network stays the same function, only the sizes of the rows change. We give each of the 300 units its own factor between
# 0.1 and 10, and prune the first layer at $c = 1$. **Predict** which of the two rules notices.

# %% [markdown] lang="zh"
# 看不出来：这个网络各行的大小差不多。那它究竟算不算错误？构造一个例子。用 ReLU 时，一个单元可以“说话”响十倍，只要下一层“听”得轻十倍：
#
# $$ w' \,\mathrm{relu}(a\, u) = (a\, w')\, \mathrm{relu}(u), \qquad a > 0 $$
#
# 网络还是同一个函数，变的只是各行的大小。给 300 个单元各乘一个 0.1 到 10 之间的系数，再用 $c = 1$ 剪第一层。**先猜：** 两种规则中，哪一种会受影响？

# %%
factors = 10 ** (2 * torch.rand(300, generator=torch.Generator().manual_seed(0)) - 1)  # 0.1 ... 10, one a unit
rescaled = copy.deepcopy(model)
with torch.no_grad():
    rescaled[0].weight *= factors[:, None]
    rescaled[0].bias *= factors
    rescaled[2].weight /= factors  # column i of the next layer undoes what unit i does
difference = (measure.predict(rescaled, X) - measure.predict(model, X)).abs().max().item()
print(f"rescaled units, nothing pruned: logits differ by {difference:.0e} at most")
assert difference < 1e-2

first = ["0.weight"]
outcome = {}
for label, network in (("as trained", model), ("rescaled", rescaled)):
    for name, rule in (("row", pruning.mean_threshold_mask), ("tensor", turned)):
        pruned, masks = prune(network, 1.0, rule, first)
        outcome[label, name] = measure.accuracy(pruned, X, labels), masks["0.weight"]
        silent = int((~masks["0.weight"].any(dim=1)).sum())
        print(f"{label:10} mean of the {name:6}: {outcome[label, name][0]:.2%}, units without any weight: {silent}")
assert (outcome["rescaled", "row"][1] == outcome["as trained", "row"][1]).double().mean() > 0.9999
assert outcome["rescaled", "tensor"][0] < outcome["rescaled", "row"][0] - 0.02 and silent > 0

# %% [markdown] lang="en"
# The mean of the row moves with the row, so its mask is the same one as before. The mean of the tensor silences whole units,
# for no other reason than the unit in which they were written down, and accuracy follows. A fault that shows nothing on your
# network may ruin the next one.

# %% [markdown] lang="zh"
# 行的平均值跟着行一起变，掩码与原来完全一样。张量的平均值却让一个个单元整个沉默，原因只是数值恰好写得小，准确率也随之下降。在你的网络上看不出来的错误，可能毁掉下一个网络。

# %% [markdown] lang="en"
# ## 4 · Third fault: biases
#
# The listing prunes whatever `layer.weights` holds, biases included. **Predict:** how many of 10,000 answers change?

# %% [markdown] lang="zh"
# ## 4 · 错误三：偏置
#
# 清单剪掉 `layer.weights` 里的一切，偏置也不例外。**先猜：** 10,000 个答案里有几个会变？

# %%
with_biases, _ = prune(model, 0.5, turned, everything)
n_biases = measure.n_parameters(model) - sum(W.numel() for W in pruning.prunable_weights(model).values())
changed = measure.flips(measure.predict(by_tensor, X), measure.predict(with_biases, X), labels)
print(f"{n_biases} biases, {n_biases / measure.n_parameters(model):.2%} of the parameters")
print(f"pruning them too: {changed.broken} answers broken, {changed.mended} mended, of {len(labels):,}")
assert n_biases == 410 and changed.broken + changed.mended < 20

# %% [markdown] lang="en"
# A handful at most. We leave biases alone all the same: they are so few that nothing can be gained, each is the only one of its
# unit, and in a network whose biases matter the loss is real. An honest list of the three, then: one fault ruins everything,
# one waits for another network, one has shown nothing. All three are mended by two lines of the library, which chapter 3.1 has
# derived:

# %% [markdown] lang="zh"
# 至多几个。尽管如此，偏置还是不剪：它们太少，剪了也省不下什么；每个单元只有一个偏置；换一个偏置很重要的网络，损失就实实在在了。
# 所以三个错误要如实地列：一个毁掉一切，一个等着毁掉别的网络，一个没有看出任何影响。用第 3.1 章推导过的库函数，两行就全改好了：

# %%
good = copy.deepcopy(model)
weights = pruning.prunable_weights(good)  # no biases
pruning.attach_masks(good, {name: pruning.mean_threshold_mask(W, c=0.5) for name, W in weights.items()})
assert measure.predict(good, X).equal(logits["row"])
print(f"zeros {measure.sparsity(good):.1%}, accuracy {measure.accuracy(good, X, labels):.2%}")

# %% [markdown] lang="en"
# Two things the listing cannot do at all. It cannot be asked for a share: $c = 0.5$ is whatever the distribution makes of it,
# while `top_mask` takes a number. And its zeros do not last: the next training step would fill them, while `attach_masks` puts
# the mask inside the function that is differentiated. Everything below uses these two.

# %% [markdown] lang="zh"
# 还有两件事，这份清单根本做不到。它不能指定比例：$c = 0.5$ 剪掉多少，全看分布；`top_mask` 则可以直接给数。它的零也留不住：再训练一步就又填满了；
# `attach_masks` 把掩码放进被求导的函数里面。下面用的都是这两样。

# %% [markdown] lang="en"
# ## 5 · Which layer can give more? A scan
#
# Prune one layer, leave the others dense, measure the error, for each layer and several sparsities:
#
# $$ E_l(p) = \mathrm{error}\bigl(W_l \leftarrow M_l(p) \odot W_l\bigr) $$
#
# The error is counted on 2,000 held-out training images, since the scan will make decisions. (The dense network has seen them,
# which favours no layer.) **Predict** the order of the three layers: 235,200, 30,000 and 1,000 weights.

# %% [markdown] lang="zh"
# ## 5 · 哪一层能多剪？做一次扫描
#
# 只剪一层，其余各层不动，测错误率；每一层、几种稀疏度都测一遍：
#
# $$ E_l(p) = \mathrm{error}\bigl(W_l \leftarrow M_l(p) \odot W_l\bigr) $$
#
# 因为要靠这次扫描做决定，错误率用留出的 2,000 张训练图像来算。（稠密网络见过它们，不过这并不偏向哪一层。）**先猜**三层的次序：它们分别有 235,200、30,000 和 1,000 个权重。

# %%
POINTS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0)


def held_out_error(network):
    return 1 - measure.accuracy(network, few.test_images, few.test_labels)


scan = pruning.sensitivity_scan(model, held_out_error, POINTS)
lines = {name: ([100 * p for p in curve], [100 * e for e in curve.values()]) for name, curve in scan.items()}
ax = plots.curves(lines, "sparsity of this layer alone (%)", "error on 2,000 held-out images (%)")
for name, curve in scan.items():
    print(f"{name}: {weights[name].numel():7,} weights, error at 90 %: {curve[0.9]:.1%}")
assert sum(len(curve) for curve in scan.values()) == 33  # evaluations
assert scan["4.weight"][0.9] > 3 * max(scan["0.weight"][0.9], scan["2.weight"][0.9])

# %% [markdown] lang="en"
# The figure shows one curve for each layer. The smallest layer suffers by far the most at the same share: each of its rows
# decides about one of ten answers with 100 weights. One point of the scan, redone without the library:

# %% [markdown] lang="zh"
# 图中每层一条曲线。剪掉同样的比例，最小的那层受损最重，而且重得多：它每一行只有 100 个权重，却要决定十个答案中的一个。不用库函数，把扫描中的一个点重算一遍：

# %%
alone = copy.deepcopy(model)
with torch.no_grad():
    W = alone[4].weight
    threshold = W.abs().flatten().sort().values[round(0.9 * W.numel()) - 1]
    W[W.abs() <= threshold] = 0
assert held_out_error(alone) == scan["4.weight"][0.9]  # the scan, one point of it, by hand

# %% [markdown] lang="en"
# ## 6 · From the scan to a sparsity for each layer
#
# Suppose that the errors of the layers add up. Then the best way to lose a share $p$ of all $\sum_l n_l$ weights is
#
# $$ \min_{p_1, p_2, \ldots} \sum_l G_l(p_l) \quad\text{with}\quad \sum_l n_l\, p_l = p \sum_l n_l $$
#
# where $G_l$ is the lower convex envelope of the scan. It is a knapsack that may be cut: each straight stretch of $G_l$ has a
# price, its rise divided by the number of weights that it removes. Buy the cheapest stretches first (`layer_budgets`).
#
# First a toy with two layers, every way tried, beside the library.

# %% [markdown] lang="zh"
# ## 6 · 由扫描定出每层的稀疏度
#
# 假设各层的错误可以相加。那么，要从全部 $\sum_l n_l$ 个权重中去掉比例 $p$，最好的办法是
#
# $$ \min_{p_1, p_2, \ldots} \sum_l G_l(p_l) \quad\text{with}\quad \sum_l n_l\, p_l = p \sum_l n_l $$
#
# 其中 $G_l$ 是扫描曲线的下凸包络。这是一个物品可以切开的背包问题：$G_l$ 的每一段直线都有价格，即上升量除以这一段去掉的权重个数。从最便宜的一段买起（`layer_budgets`）。
#
# 先用两层的小例子，把每一种分法都试一遍，与库函数对照。

# %%
print(inspect.getsource(pruning.layer_budgets).split('"""')[2])
toy = {"large": {0: 0.0, 0.5: 0.1, 1.0: 0.6}, "small": {0: 0.0, 0.5: 0.3, 1.0: 0.9}}  # 100 and 10 weights; 82 of them go


def toy_error(large, small):
    """The sum of both curves when so many weights go: 0.1 for the first 50 of the large layer, 0.5 for the other 50, and so on."""
    on_large = 0.1 * min(large, 50) / 50 + 0.5 * max(large - 50, 0) / 50
    return on_large + 0.3 * min(small, 5) / 5 + 0.6 * max(small - 5, 0) / 5


best = min(((82 - small, small) for small in range(11)), key=lambda gone: toy_error(*gone))
budgets = pruning.layer_budgets(toy, {"large": 100, "small": 10}, 82 / 110)
print("every way tried:", best, " bought by price:", {name: round(p, 3) for name, p in budgets.items()})
assert best == (82, 0) and abs(budgets["large"] - 0.82) < 1e-9 and budgets["small"] == 0

# %% [markdown] lang="en"
# We compare three ways: the same share for each layer, shares from the scan, and one threshold of magnitude for the whole
# network, which looks at no data at all. **Predict** their order at 90 %.

# %% [markdown] lang="zh"
# 我们比较三种做法：每层同样的比例；按扫描结果分配；全网络用一个绝对值阈值，这种做法完全不看数据。**先猜**剪到 90 % 时三者的次序。

# %%
sizes = {name: W.numel() for name, W in pruning.prunable_weights(model).items()}
scores = {name: pruning.magnitude_score(W) for name, W in pruning.prunable_weights(model).items()}


def allocations(p):
    budgets = pruning.layer_budgets(scan, sizes, p)
    return {
        "equal": {name: pruning.top_mask(S, p) for name, S in scores.items()},
        "from the scan": pruning.budget_masks(scores, budgets),
        "one threshold": pruning.global_masks(scores, p),
    }


def masked(masks):
    network = copy.deepcopy(model)
    pruning.attach_masks(network, masks)
    return network


for p in (0.9, SPARSITY):
    for label, masks in allocations(p).items():
        shares = "  ".join(f"{1 - mask.double().mean():5.1%}" for mask in masks.values())
        gone = sum(int((~mask).sum()) for mask in masks.values())
        assert abs(gone - p * sum(sizes.values())) <= 2  # each layer's count is rounded
        print(f"{p:.0%} by {label:13} per layer {shares}  accuracy {measure.accuracy(masked(masks), X, labels):.1%}")
by_scan, equal = (measure.accuracy(masked(allocations(0.9)[label]), X, labels) for label in ("from the scan", "equal"))
assert by_scan > equal + 0.2

# %% [markdown] lang="en"
# Equal shares are the worst by far: they take 900 of the last layer's 1,000 weights and gain almost nothing by it. Does a short
# training even that out? 24 steps for each, the same learning rate, three orders of the batches.

# %% [markdown] lang="zh"
# 平均分配差得最远：它从最后一层的 1,000 个权重里拿走 900 个，却几乎没省下什么。短暂的训练能把差距补上吗？三种做法各训练 24 步，学习率相同，批次顺序三种。


# %%
def tune(network, seed, lr, n_epochs=1, after_step=None, lr_at=None):
    """24 steps an epoch on the same 3,000 images; the learning rate falls as half a cosine, or as lr_at says."""
    n_steps = n_epochs * N_TUNE // BATCH_SIZE
    how = {"n_epochs": n_epochs, "batch_size": BATCH_SIZE, "seed": seed, "progress": False, "after_step": after_step}
    how |= {"optimizer": Adam(list(network.parameters()), lr=lr)}
    how |= {"schedule": lr_at or (lambda step: warmup_cosine(step, n_steps, lr))}
    train(network, few.train_images, few.train_labels, **how)
    return network


tuned = {}
for label, masks in allocations(SPARSITY).items():
    networks = [tune(masked(masks), seed, LEARNING_RATES[1]) for seed in SEEDS]
    tuned[label] = [measure.accuracy(network, X, labels) for network in networks]
    print(f"{label:13} after 24 steps:", "  ".join(f"{a:.1%}" for a in tuned[label]))
for label in ("from the scan", "one threshold"):
    verdict = measure.verdict(tuned[label], tuned["equal"])
    print(f"{label} against equal: {verdict}")
    assert verdict == "better"
verdict = measure.verdict(tuned["from the scan"], tuned["one threshold"])
print("from the scan against one threshold:", verdict)
assert verdict != "better"

# %% [markdown] lang="en"
# It does not: equal shares stay far behind. And the surprise: the scan, with some thirty evaluations on real images, does not
# beat one threshold that never saw an image. Both spare the small layers; more is not to be gained here. A scan earns its keep
# where magnitudes of different layers cannot be compared (batch norms, other initializations), and because it *shows* the weak
# layer.
#
# Now try it yourself: choose a sparsity for each layer, and try to beat the grey curve.

# %% [markdown] lang="zh"
# 补不上：平均分配仍然远远落后。出人意料的是：扫描在真实图像上评估了三十来次，却没有胜过那个一张图都没看过的全局阈值。两者都放过了小的层，在这里能得到的好处也就这么多。
# 各层绝对值不可比时（有批归一化，或初始化不同），扫描才显出价值；何况它能让人*看见*哪一层薄弱。
#
# 现在自己试试：给每一层选一个稀疏度，看能不能超过那条灰色曲线。

# %%
budget_explorer(model, some.test_images, some.test_labels, scan)

# %% [markdown] lang="en"
# The same without moving parts. Left: the scan, with the chosen sparsities as dotted lines. Right: what the choice does to
# 2,000 test images, beside the curve of one threshold.

# %% [markdown] lang="zh"
# 下面是静态版。左：扫描曲线，虚线是所选的稀疏度。右：这一选择在 2,000 张测试图像上的结果，旁边是全局阈值的曲线。

# %%
choice = {"0.weight": 0.95, "2.weight": 0.8, "4.weight": 0.3}
share, right = budget_values(model, some.test_images, some.test_labels, choice)
curve = {}
for p in (0.0, 0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98):
    curve[p] = measure.accuracy(masked(pruning.global_masks(scores, p)), some.test_images, some.test_labels)
figure = budget_figure(scan, choice, share, right, curve)
assert 0.92 < share < 0.94
figure

# %% [markdown] lang="en"
# ## 7 · At once, in rounds, or gradually?
#
# Three schedules lead to 95 % zeros, each within 48 steps on the same images:
#
# - *at once*: prune, then repair for all 48 steps;
# - *in rounds* (Han et al.): four times "prune the same share of what is left, train 12 steps", the learning rate starting anew
#   in each round;
# - *gradually* (Zhu and Gupta): $p_t = p_f + (p_i - p_f)(1 - t/30)^3$ during the first 30 steps, a new mask every third step.
#
# Each way chooses one of two learning rates on the held-out images with a seed of its own; then three seeds are judged on the
# test images. **Predict** the winner. Papers report that gradual pruning wins.

# %% [markdown] lang="zh"
# ## 7 · 一次剪完、分轮剪，还是渐进式？
#
# 三种日程都剪到 95 %，用同样的图像，各训练 48 步：
#
# - *一次剪完*：先剪，48 步全部用来修复；
# - *分轮*（Han 等人）：重复四次“剪掉剩下的同样比例，再训练 12 步”，每轮的学习率重新开始；
# - *渐进式*（Zhu 和 Gupta）：前 30 步按 $p_t = p_f + (p_i - p_f)(1 - t/30)^3$ 剪，每三步换一次掩码。
#
# 每种做法各用一个单独的随机种子，在留出的图像上从两个学习率里挑一个；然后用三个种子在测试图像上评判。**先猜**谁赢。论文里说，渐进式会赢。


# %%
def masks_at(network, p):
    return pruning.global_masks({name: W.abs() for name, W in pruning.prunable_weights(network).items()}, p)


N_STEPS, N_ROUNDS = 2 * N_TUNE // BATCH_SIZE, 4  # 48 steps for each way
LENGTH = N_STEPS // N_ROUNDS


def due(way, step):
    """The sparsity that holds during this step."""
    if way == "rounds":  # each round takes the same share of what is left
        share = 1 - (1 - SPARSITY) ** (1 / N_ROUNDS)
        return pruning.round_sparsity(min(step // LENGTH + 1, N_ROUNDS), share)
    return SPARSITY if way == "at once" else pruning.cubic_sparsity(step, 30, SPARSITY)


def prune_and_tune(way, lr, seed):
    network = masked(masks_at(model, due(way, 0)))

    def raise_sparsity(step):
        if step + 1 < N_STEPS and due(way, step + 1) > due(way, step) and (way == "rounds" or step % 3 == 2):
            pruning.update_masks(network, masks_at(network, due(way, step + 1)))

    rounds = {"lr_at": lambda step: warmup_cosine(step % LENGTH, LENGTH, lr)} if way == "rounds" else {}
    tune(network, seed, lr, n_epochs=2, after_step=raise_sparsity, **rounds)
    pruning.make_permanent(network)
    assert abs(measure.sparsity(network) - SPARSITY) < 0.002  # the 410 biases stay
    return network


steps = range(N_STEPS)
WAYS = ("at once", "rounds", "gradual")
ax = plots.curves({way: [due(way, step) for step in steps] for way in WAYS}, "step", "sparsity due (fraction)")
assert all(due(way, N_STEPS - 1) == SPARSITY or abs(due(way, N_STEPS - 1) - SPARSITY) < 1e-12 for way in WAYS)

# %%
best = {}
for way in WAYS:
    errors = {lr: held_out_error(prune_and_tune(way, lr, seed=3)) for lr in LEARNING_RATES}
    best[way] = min(errors, key=errors.get)
    assert best[way] == LEARNING_RATES[way != "rounds"]
    print(f"{way:8} held-out error", "  ".join(f"lr {lr}: {e:.1%}" for lr, e in errors.items()))
final = {}
for way in WAYS:
    final[way] = [measure.accuracy(prune_and_tune(way, best[way], seed), X, labels) for seed in SEEDS]
    print(f"{way:8} lr {best[way]}, test images:", "  ".join(f"{a:.2%}" for a in final[way]))
for way in ("rounds", "gradual"):
    verdict = measure.verdict(final[way], final["at once"])
    behind = (sum(final["at once"]) - sum(final[way])) / len(SEEDS)
    print(f"{way} against at once: {verdict}, {100 * behind:.1f} points behind on average")
    assert verdict != "better" and behind > 0.005 and max(final[way]) < min(final["at once"])

# %% [markdown] lang="en"
# At this budget the worst run of pruning at once is above the best run of the other two. (The seeds of the rounds may scatter
# so widely that three of them support no verdict; read the line.) Two things are scarce. First, steps with the *final* mask:
# 48, 18 and 12. Second, look at the learning rates: the others chose the large one, which repairs fastest; the rounds had to
# choose the small one. Large steps between the cuts move small weights as far as large ones, and then magnitude no longer tells
# which of them matter. The papers train for thousands of small steps; there the end is long enough for everyone, and the better
# mask of the slow ways pays. A schedule is a way of spending a budget, and its merit cannot be told without the budget. Chapter
# 3.1 found no gain from gradual pruning either.

# %% [markdown] lang="zh"
# 在这个预算下，一次剪完最差的一次，也高过另外两种最好的一次。（分轮剪的三个种子可能相差很大，以致下不了结论，请看那一行。）有两样东西稀缺。第一，带着*最终*掩码训练的步数：分别是 48、18 和 12。第二，看看学习率：另外两种选了大的，修复得最快；分轮只能选小的。
# 两次剪枝之间若步子太大，小权重会被移动得和大权重一样远，绝对值就不再能说明谁重要。论文训练成千上万个小步，那时最后一段对谁都够长，慢剪得到的好掩码才见效。
# 日程是花预算的方式，离开预算谈不上好坏。第 3.1 章里，渐进式剪枝同样没有带来好处。

# %% [markdown] lang="en"
# ## 8 · Channels that really go: LeNet-5
#
# Half of the channels of both convolutions and of the large linear layer are cut out. Three choices: the first half, as they
# come (naive); the half with the largest $\lVert W_{i,:} \rVert$; a half drawn by lot, three times. On LeNet-300-100 the norm
# *lost* to the lot (chapter 3.1). **Predict** for LeNet-5.

# %% [markdown] lang="zh"
# ## 8 · 真正移除通道：LeNet-5
#
# 两个卷积层和大的线性层各切掉一半通道。选法有三种：直接取前一半（最省事的做法）；取 $\lVert W_{i,:} \rVert$ 最大的一半；抽签取一半，抽三次。在 LeNet-300-100 上，按范数*输给*了抽签（第 3.1 章）。
# **先猜** LeNet-5 上会怎样。

# %%
LAYERS = ("1", "3", "6")  # two convolutions and the large linear layer
n_channels = {name: conv_net.get_submodule(name).weight.shape[0] for name in LAYERS}


def cut(keeps):
    network = conv_net
    for name, keep in keeps.items():
        network = pruning.remove_channels(network, name, keep)
    return network


def l2(name):
    return pruning.channel_scores(conv_net.get_submodule(name).weight.detach())


def by_lot(name, seed):
    return pruning.random_score(torch.ones(n_channels[name]), torch.Generator().manual_seed(seed))


keeps = {"the first half": {name: torch.arange(n) < n // 2 for name, n in n_channels.items()}}
keeps["by norm"] = {name: pruning.top_mask(l2(name), 0.5) for name in LAYERS}
for seed in SEEDS:
    keeps[f"by lot, {seed}"] = {name: pruning.top_mask(by_lot(name, seed), 0.5) for name in LAYERS}
smaller = {label: cut(keep) for label, keep in keeps.items()}
conv_dense = measure.accuracy(conv_net, some.test_images, some.test_labels)
print(f"dense LeNet-5: {conv_dense:.2%} of 2,000 test images")
untuned = {label: measure.accuracy(network, some.test_images, some.test_labels) for label, network in smaller.items()}
for label, a in untuned.items():
    print(f"{label:14} {a:.2%}")
lots = [a for label, a in untuned.items() if label.startswith("by lot")]
assert untuned["by norm"] > sum(lots) / 3 and untuned["by norm"] > untuned["the first half"]

# %% [markdown] lang="en"
# Here the norm beats the mean of the lots. Two networks, two answers: a criterion is a hypothesis about a network. Is the
# surgery right? The oracle of chapter 3.1: a removed channel and a silenced one give the same outputs.

# %% [markdown] lang="zh"
# 这一次，按范数选胜过抽签的平均。两个网络，两种答案：一种准则就是关于网络的一个假设。手术做对了吗？用第 3.1 章的判断标准：移除通道与让通道沉默，输出应当相同。

# %%
silent = conv_net
for name, keep in keeps["by norm"].items():
    silent = pruning.zero_channels(silent, name, keep)
difference = (measure.predict(silent, X[:100]) - measure.predict(smaller["by norm"], X[:100])).abs().max().item()
print(f"removed against silenced: logits differ by {difference:.0e} at most")
assert difference < 1e-3

# %% [markdown] lang="en"
# **Predict** the multiplications from the shapes. A convolution with $c$ output channels, $c'$ input channels and a 5 x 5
# window costs $25\, c\, c'\, h w$ at $h w$ places:
#
# $$ 25 \cdot 24^2\, c_1 \;+\; 25 \cdot 8^2\, c_1 c_2 \;+\; 16\, c_2\, n \;+\; 10\, n $$
#
# with $(c_1, c_2, n) = (20, 50, 500)$ before and $(10, 25, 250)$ after. Half of all channels: do half of the multiplications
# go, or three quarters? And the time?

# %% [markdown] lang="zh"
# 从形状**预测**乘加次数。一个 5 x 5 的卷积，输出通道 $c$ 个、输入通道 $c'$ 个，在 $h w$ 个位置上的代价是 $25\, c\, c'\, h w$：
#
# $$ 25 \cdot 24^2\, c_1 \;+\; 25 \cdot 8^2\, c_1 c_2 \;+\; 16\, c_2\, n \;+\; 10\, n $$
#
# 切之前 $(c_1, c_2, n) = (20, 50, 500)$，切之后是 $(10, 25, 250)$。通道少了一半，乘加次数是少一半，还是少四分之三？时间呢？


# %%
def predicted_macs(c1, c2, n):
    return {"1": c1 * 25 * 24 * 24, "3": c2 * c1 * 25 * 8 * 8, "6": n * c2 * 4 * 4, "8": 10 * n}


before, after = measure.macs(conv_net, X[:1]), measure.macs(smaller["by norm"], X[:1])
assert before == predicted_macs(20, 50, 500) and after == predicted_macs(10, 25, 250)
total, rest = sum(before.values()), sum(after.values())
print(f"MACs {total:,} -> {rest:,}: x {total / rest:.2f}; by layer {[round(before[k] / after[k], 1) for k in before]}")
x = X[:100]
speed = measure.speed_ratio(lambda: conv_net(x), lambda: smaller["by norm"](x), n_repeats=9)
n_before, n_after = measure.n_parameters(conv_net), measure.n_parameters(smaller["by norm"])
print(f"time, batch of 100: {speed}; parameters {n_before:,} -> {n_after:,}")
assert 3 < total / rest < 4 and speed.high > 1 and n_before / 4.2 < n_after < n_before / 3.8

# %% [markdown] lang="en"
# Layers that lose inputs *and* outputs become four times cheaper, the first and the last only twice, since pixels and digits
# stay. Time gains less than the multiplications: look at your own ratio. Pooling and the small first convolution do not shrink
# as well as the sum says. Now let both networks train for 12 steps, at one learning rate for both:

# %% [markdown] lang="zh"
# 输入和输出*都*减半的层，代价降到四分之一；第一层和最后一层只降到一半，因为像素和数字类别没有变。时间省得没有乘加次数那么多，看看你自己机器上的比值：池化和小小的第一个卷积，并不像算式说的那样跟着缩小。
# 现在让两个网络各训练 12 步，学习率相同：


# %%
def tune_conv(network, seed):
    network, n_steps = copy.deepcopy(network), 12
    how = {"batch_size": BATCH_SIZE, "seed": seed, "progress": False, "optimizer": Adam(list(network.parameters()), lr=1e-3)}
    images, answers = few.train_images[:1_500], few.train_labels[:1_500]
    train(network, images, answers, schedule=lambda step: warmup_cosine(step, n_steps, 1e-3), **how)
    return measure.accuracy(network, some.test_images, some.test_labels)


after_tuning = {}
for label in ("the first half", "by norm"):
    after_tuning[label] = [tune_conv(smaller[label], seed) for seed in SEEDS]
    print(f"{label:14} {untuned[label]:.1%}, after 12 steps", "  ".join(f"{a:.2%}" for a in after_tuning[label]))
verdict = measure.verdict(after_tuning["by norm"], after_tuning["the first half"])
print("by norm against the first half:", verdict)
assert verdict == "better" and min(after_tuning["by norm"]) > untuned["by norm"] + 0.03
assert untuned["by norm"] > untuned["the first half"] + 0.03

# %% [markdown] lang="en"
# Naive, sorted, tuned: each step is worth several points, and the sorted network keeps its lead after the repair. A quarter of
# the parameters, in an ordinary network that any library runs. (2,000 test images: differences of a few tenths of a point would
# not count.)

# %% [markdown] lang="zh"
# 随手切、排序后切、切完再调：每一步都值好几个百分点，而且修复之后，排过序的网络仍然领先。参数只剩四分之一，还是一个随便哪个库都能运行的普通网络。
# （测试图像 2,000 张：零点几个百分点的差别不算数。）

# %% [markdown] lang="en"
# ## 9 · What is faster? A share of the roof
#
# A layer needs at least $\max(\text{flops}/P,\ \text{bytes}/\beta)$ seconds (chapter 1). A masked layer does the same flops on
# the same bytes as a dense one, so its roof is the same. CSR has fewer flops, but each value brings its column along, 12 bytes
# instead of 4. A layer with fewer units has fewer of both. **Predict** for 2048 x 2048 and a batch of 32: which of the three
# comes close to its own roof?

# %% [markdown] lang="zh"
# ## 9 · 到底哪种更快？看占屋顶的几成
#
# 一层至少需要 $\max(\text{flops}/P,\ \text{bytes}/\beta)$ 秒（第 1 章）。加了掩码的层，计算量和字节数都与稠密层一样，屋顶也就一样。CSR 的计算量少，但每个值都要带上列号，从 4 字节变成 12 字节。
# 单元更少的层，两样都少。**先猜：** 2048 x 2048、一批 32 个样本，三种做法里哪一种最接近自己的屋顶？

# %%
warnings.filterwarnings("ignore", message="Sparse CSR tensor support")  # torch says that it is a beta
n, B = 2048, 32
machine = measure_machine(sizes=(10**6, 32 * 10**6), n_repeats=6)
W, V = (torch.randn(n, k, generator=torch.Generator().manual_seed(k)) for k in (n, B))
rows, faster = [("dense", linear_work(B, n, n), lambda: W @ V)], {}
for p in (0.5, 0.8, 0.95):
    zeros = W * pruning.top_mask(W.abs(), p)
    csr, small = zeros.to_sparse_csr(), W[: round((1 - p) * n)].contiguous()
    torch.testing.assert_close(csr @ V, zeros @ V, rtol=1e-3, atol=1e-3)
    m = csr.values().numel()
    csr_work = Work(2 * B * m, (4 + 8) * m + 8 * (n + 1) + 4 * B * (n + n))  # torch keeps a column in 8 bytes
    rows.append((f"masked, {p:.0%}", linear_work(B, n, n), lambda zeros=zeros: zeros @ V))
    rows.append((f"CSR, {p:.0%}", csr_work, lambda csr=csr: csr @ V))
    rows.append((f"fewer units, {p:.0%}", linear_work(B, n, len(small)), lambda small=small: small @ V))

# %%
shares = {}
for label, work, fn in rows:
    shares[label] = machine.time_s(work) / fastest_s(fn, 7)
    faster[label] = measure.speed_ratio(rows[0][2], fn, n_repeats=7)
    bound = machine.bound_by(work)
    print(f"{label:17} {work.flops / 1e6:6.1f} Mflop, bound by {bound:10} {shares[label]:4.0%} of the roof; {faster[label]}")
lines = {}
for kind in ("masked", "CSR", "fewer units"):
    lines[kind] = [50, 80, 95], [faster[f"{kind}, {p}%"].ratio for p in (50, 80, 95)]
ax = plots.curves(lines, "sparsity (%)", "times faster than dense", "2048 x 2048, batch 32, one thread", log_y=True)
line = ax.axhline(1, color="0.5", linestyle=":")
assert faster["CSR, 95%"].high > 1 and faster["fewer units, 95%"].high > 1
assert faster["masked, 95%"].low < 2 and faster["fewer units, 95%"].high > faster["CSR, 50%"].low

# %% [markdown] lang="en"
# The figure shows the ratios of the list, the dotted line is "as fast as dense". Read your own. *Masked*: as many flops, the
# same roof, so the ratio is 1 up to noise. *Fewer units*: fewer flops, done by the same good kernel, so time falls about as the
# flops do, and further where the smaller matrix fits into a nearer cache. *CSR*: the flops fall too, but it reaches a much
# smaller share of its roof, since its loads jump: so at 50 % it usually loses, and at 95 % it wins. The last ratio in each line
# compares the same number of weights; what the zeros may *freely choose*, CSR pays for in time, and fewer units pay for in
# accuracy.

# %% [markdown] lang="zh"
# 图中画的是表里的比值，虚线表示“与稠密一样快”。请读你自己的那张表。*加掩码*：计算量一样，屋顶一样，所以比值就是 1，加上噪声。*减少单元*：计算量少了，用的还是同样好的计算内核，时间大致随计算量下降；小矩阵若能放进更近的缓存，还会降得更多。*CSR*：计算量也少，但它只能达到自己屋顶的很小一部分，
# 因为读数据要跳来跳去；所以 50 % 时一般要亏，95 % 时才赢。同一个稀疏度下，权重个数是一样的：零的位置可以*自由选择*，CSR 为此付出时间，减少单元则付出准确率。

# %% [markdown] lang="en"
# ## 10 · The lottery ticket, with both controls
#
# Training finds a mask. Frankle and Carbin claim that mask *and* initial values together are the ticket:
#
# $$ (M, \theta_0) \quad\text{against}\quad (M, \theta'_0) \quad\text{and}\quad (M', \theta_0) $$
#
# $\theta'_0$ is another draw, $M'$ the same number of weights in each layer at places drawn by lot. The mask comes from two
# rounds of "train, prune, back to $\theta_0$" (`find_ticket`). Everything trains alike: 48 steps on the same 3,000 images,
# three seeds. The cell asserts what the controls claim: equal masks where they should be equal, equal initial values where they
# should be equal, equal counts everywhere.
#
# **Predict:** 5 % of the weights stay. Which of the two changes hurts more, other values or other places?

# %% [markdown] lang="zh"
# ## 10 · 彩票假设，带上两个对照组
#
# 训练会找到一个掩码。Frankle 和 Carbin 说，掩码*连同*初始值才是彩票：
#
# $$ (M, \theta_0) \quad\text{against}\quad (M, \theta'_0) \quad\text{and}\quad (M', \theta_0) $$
#
# （左边与右边两个相比。）$\theta'_0$ 是另一次初始化；$M'$ 在每一层留下同样多的权重，位置由抽签决定。掩码来自两轮“训练、剪枝、回退到 $\theta_0$”（`find_ticket`）。各方的训练完全相同：同样的 3,000 张图像，48 步，三个种子。
# 代码还断言对照组名副其实：该相同的掩码相同，该相同的初始值相同，个数处处相同。
#
# **先猜：** 只留 5 % 的权重。换初始值和换位置，哪一种伤害更大？

# %%
trained_networks = []


def fit(seed):
    return lambda network: trained_networks.append(tune(network, seed, 2e-3, n_epochs=2))


untrained, after, tickets = {}, {"dense": []}, []
for seed in SEEDS:
    start, stranger = lenet_300_100(seed=seed), lenet_300_100(seed=100 + seed)
    state = pruning.snapshot(start)
    masks = pruning.find_ticket(start, state, fit(seed), (0.78, SPARSITY))  # two rounds: 22 %, then 5 % of all stay
    after["dense"].append(measure.accuracy(trained_networks[-2], X, labels))  # in the first round nothing is masked
    lots = pruning.shuffled_masks(masks, torch.Generator().manual_seed(seed))
    pairs = {"ticket": (state, masks), "other start": (pruning.snapshot(stranger), masks), "other mask": (state, lots)}
    for label, (values, M) in pairs.items():
        network = pruning.rewind(start, values, M)
        for name, mask in pruning.current_masks(network).items():  # the controls are what they claim to be
            assert mask.equal(masks[name]) == (label != "other mask") and mask.sum() == masks[name].sum()
            V = network.get_parameter(name.replace(".weight", ".parametrizations.weight.original"))
            assert V.equal(state[name]) == (label != "other start")
        untrained.setdefault(label, []).append(measure.accuracy(network, X, labels))
        fit(seed)(network)
        after.setdefault(label, []).append(measure.accuracy(network, X, labels))
    tickets.append(masks)

# %%
for label, values in after.items():
    first = "  ".join(f"{a:.1%}" for a in untrained.get(label, []))
    print(f"{label:12} after 48 steps", "  ".join(f"{a:.1%}" for a in values), f"  untrained {first}" if first else "")
for label in ("other start", "other mask", "dense"):
    print(f"ticket against {label}: {measure.verdict(after['ticket'], after[label])}")
assert measure.verdict(after["ticket"], after["other start"]) == "better"
assert measure.verdict(after["ticket"], after["other mask"]) == "better"
assert min(after["ticket"]) > max(after["other start"] + after["other mask"]) + 0.1
assert min(untrained["ticket"]) > 0.25 > max(untrained["other start"] + untrained["other mask"])

# %% [markdown] lang="en"
# The ticket beats both controls, by some twenty points: values without their places are worth little, and so are places without
# their values. Before any training it already reads a good part of the digits; the controls guess. But it stays behind the
# dense network of the same budget, of which it is a twentieth. The hypothesis, "as good as the dense one", is not shown here:
# it speaks of training to the end and of many rounds.
#
# Is the ticket a property of the *digits*? Then another start should find the same places.

# %% [markdown] lang="zh"
# 彩票胜过两个对照组，领先二十来个百分点：有值而没有对应的位置，不值什么；有位置而没有对应的值，也一样。还没训练，它就能认出不少数字，对照组只能瞎猜。但在同样的预算下，它不如稠密网络，毕竟权重只有二十分之一。
# 原来的假设是“与稠密网络一样好”，这在这里没有得到证实：那说的是训练到底、剪很多轮。
#
# 彩票是*数字图像*的性质吗？如果是，换一个起点也应当找到同样的位置。

# %%
start = lenet_300_100(seed=0)
again = pruning.find_ticket(start, pruning.snapshot(start), fit(1), (0.78, SPARSITY))  # the start of ticket 0, another order
lots = pruning.shuffled_masks(tickets[0], torch.Generator().manual_seed(1))
overlap = {"same start, other order": again, "other start": tickets[1], "by lot": lots}
overlap = {label: pruning.mask_overlap(tickets[0], masks) for label, masks in overlap.items()}
print("share of ticket 0's weights kept again:", {label: f"{share:.1%}" for label, share in overlap.items()})
assert overlap["same start, other order"] > 0.6 > 0.2 > overlap["other start"]
assert abs(overlap["other start"] - overlap["by lot"]) < 0.03

# %% [markdown] lang="en"
# No: tickets of two starts share no more places than lots do, while the same start finds most of its places again, even when
# the images come in another order. The ticket belongs to its draw.

# %% [markdown] lang="zh"
# 不是：两个起点的彩票，重合的位置并不比抽签多；而同一个起点，即使图像的顺序换了，也会再次找到大部分同样的位置。彩票属于它那一次初始化。

# %% [markdown] lang="en"
# ## 11 · 2:4, and the order of the columns
#
# In 2:4 sparsity weights compete with their three neighbours only, and who is whose neighbour is an accident. Permute the
# columns of $W_2$ and the rows of $W_1$ alike, and the network is the same; so choose the order $\pi$ that keeps most:
#
# $$ \max_\pi \; \sum_{i,\, b} \; \text{sum of the 2 largest of } S_{i,\pi(4b+1)}, \ldots, S_{i,\pi(4b+4)} $$
#
# Eight columns can be dealt into two blocks in 35 ways, so we try them all (`best_permutation`); 300 columns cannot, so we
# exchange the two columns that gain most, again and again (`swap_permutation`). It starts from the order as it stands, so it
# can never keep less. **Predict:** how much of the gap between 2:4 and a free choice of half the weights does an order win
# back?

# %% [markdown] lang="zh"
# ## 11 · 2:4 与列的顺序
#
# 在 2:4 稀疏中，权重只与三个邻居竞争，而谁与谁为邻纯属偶然。把 $W_2$ 的列和 $W_1$ 的行按同样的方式重排，网络不变；所以不妨选一个留下最多的顺序 $\pi$：
#
# $$ \max_\pi \; \sum_{i,\, b} \; \text{sum of the 2 largest of } S_{i,\pi(4b+1)}, \ldots, S_{i,\pi(4b+4)} $$
#
# （对每一行、每一块，取四个得分中最大的两个相加。）八列分成两块只有 35 种分法，可以全部试一遍（`best_permutation`）；300 列就不行了，于是反复交换获益最大的两列（`swap_permutation`）。它从现有的顺序出发，所以绝不会留得更少。**先猜：**
# 2:4 与自由选一半权重之间的差距，靠排顺序能追回多少？

# %%
small = torch.rand(3, 8, generator=torch.Generator().manual_seed(0))
identity = torch.arange(8)
best_order, found = pruning.best_permutation(small), pruning.swap_permutation(small)
kept = {"as it stands": identity, "by exchanges": found, "best of 35": best_order}
kept = {label: pruning.kept_score(small, order) for label, order in kept.items()}
free = small[pruning.top_mask(small, 0.5)].sum().item()
print({label: round(k, 3) for label, k in kept.items()}, "free choice:", round(free, 3))
assert pruning.n_ways(8) == 35 and kept["as it stands"] <= kept["by exchanges"] <= kept["best of 35"] <= free + 1e-5
assert kept["as it stands"] < kept["best of 35"]

# %%
orders, shares, patterns = {}, {}, {"2:4": {}, "2:4, permuted": {}, "free 50 %": {}}
for name, S in scores.items():
    orders[name] = pruning.swap_permutation(S, max_swaps=150)
    patterns["2:4"][name] = pruning.n_m_mask(S, 2, 4)
    patterns["2:4, permuted"][name] = pruning.permuted_n_m_mask(S, orders[name])
    patterns["free 50 %"][name] = pruning.top_mask(S, 0.5)
    shares[name] = [(S[masks[name]].sum() / S.sum()).item() for masks in patterns.values()]
    print(f"{name}: kept of the sum of |w|", "  ".join(f"{k:.1%}" for k in shares[name]), list(patterns))
    assert shares[name][0] < shares[name][1] <= shares[name][2] + 1e-6
right = {label: measure.accuracy(masked(masks), X, labels) for label, masks in patterns.items()}
print("accuracy, nothing trained:", {label: f"{a:.2%}" for label, a in right.items()})
logits = {label: measure.predict(masked(masks), X) for label, masks in patterns.items()}
for other in ("2:4", "free 50 %"):
    print(f"permuted against {other}: {measure.verdict_on_test_set(logits['2:4, permuted'], logits[other], labels)}")
won = (shares["2.weight"][1] - shares["2.weight"][0]) / (shares["2.weight"][2] - shares["2.weight"][0])
print(f"middle layer: {won:.0%} of the gap to the free choice is won back")
assert won > 0.25 and min(right.values()) > dense - 0.03

# %% [markdown] lang="en"
# In the middle layer more than a quarter of the gap comes back, for nothing: the order costs no byte and no time, once the
# layer before delivers its units in it. (The first layer got only 150 exchanges, to stay within our minute; its inputs are
# pixels, which would have to be reordered when they are read.) Accuracy moves little, since at 50 % there was little to lose;
# read the verdicts. Here is the exchange done in the network itself:

# %% [markdown] lang="zh"
# 中间层的差距追回了四分之一以上，而且是白得的：只要前一层按新顺序给出各单元，这个顺序不占字节，也不花时间。（第一层只交换了 150 次，免得超过我们的一分钟；它的输入是像素，读入时就得重排。）
# 准确率变化不大，因为 50 % 本来就没什么可丢的，请看结论那两行。下面在网络里真的把顺序换过来：

# %%
network, order = masked(patterns["2:4, permuted"]), orders["2.weight"]
pruning.make_permanent(network)
outputs = measure.predict(network, X)
with torch.no_grad():
    network[0].weight.copy_(network[0].weight[order])
    network[0].bias.copy_(network[0].bias[order])
    network[2].weight.copy_(network[2].weight[:, order])
blocks = (network[2].weight != 0).reshape(100, -1, 4).sum(dim=-1)
difference = (measure.predict(network, X) - outputs).abs().max().item()
print(f"most non-zeros in a block of four: {int(blocks.max())}; logits differ by {difference:.0e} at most")
assert blocks.max() <= 2 and difference < 1e-3

# %% [markdown] lang="en"
# ## Summary
#
# - The listing had four faults. One raises an error, one ruins the network, one waits for a network with rows of unequal size,
#   one has shown nothing. Accuracy alone finds the second only; look at *what* was kept.
# - Equal shares per layer are the worst way to reach a sparsity. One threshold for the network needs no data and was not beaten
#   by a scan.
# - A schedule is judged at a budget. With few steps, pruning at once was not beaten.
# - Removed channels shrink multiplications and time in an ordinary network, and sorting, then tuning, saves the accuracy. The
#   norm won here and lost in chapter 3.1.
# - Masked zeros save no time, CSR does when most are zero, fewer units always do.
# - A ticket needs its mask and its values. It beat both controls, and not the dense network.
# - The order of the columns is free, and 2:4 keeps more in a good one.
#
# **Functions used**
#
# - `course_lib.pruning.mean_threshold_mask`, `course_lib.pruning.top_mask`, `course_lib.pruning.global_masks`,
#   `course_lib.pruning.attach_masks`, `course_lib.pruning.update_masks`, `course_lib.pruning.make_permanent`
# - `course_lib.pruning.sensitivity_scan`, `course_lib.pruning.layer_budgets`, `course_lib.pruning.budget_masks`
# - `course_lib.pruning.cubic_sparsity`, `course_lib.pruning.round_sparsity`
# - `course_lib.pruning.channel_scores`, `course_lib.pruning.remove_channels`, `course_lib.pruning.zero_channels`
# - `course_lib.pruning.snapshot`, `course_lib.pruning.find_ticket`, `course_lib.pruning.shuffled_masks`,
#   `course_lib.pruning.mask_overlap`, `course_lib.pruning.rewind`
# - `course_lib.pruning.n_ways`, `course_lib.pruning.best_permutation`, `course_lib.pruning.swap_permutation`,
#   `course_lib.pruning.kept_score`, `course_lib.pruning.permuted_n_m_mask`, `course_lib.pruning.n_m_mask`
# - `course_lib.measure.verdict`, `course_lib.measure.verdict_on_test_set`, `course_lib.measure.flips`,
#   `course_lib.measure.macs`, `course_lib.measure.speed_ratio`
# - `course_lib.measure.roofline.measure_machine`, `course_lib.measure.roofline.linear_work`,
#   `course_lib.measure.roofline.fastest_s`
# - `course_lib.widgets.practice_pruning.budget_explorer`, `course_lib.widgets.practice_pruning.budget_values`,
#   `course_lib.widgets.practice_pruning.budget_figure`
#
# **Exercises:** those of this chapter are planned. Three experiments to do right here: give the rounds of section 7 four times
# as many steps (`n_epochs`) and watch the distance to pruning at once; in section 8 keep the channels with the *smallest* norm;
# in section 10 take a third round. **Before this:** [3.1 · Weight pruning](03_1_weight_pruning.ipynb).

# %% [markdown] lang="zh"
# ## 小结
#
# - 这份清单有四个错误：一个直接报错，一个毁掉网络，一个等着毁掉各行大小不一的网络，一个没有看出影响。只看准确率，只能发现第二个；要去看留下的*是什么*。
# - 要达到某个稀疏度，每层平均分配是最差的办法。全网络一个阈值，不需要数据，扫描也没能胜过它。
# - 日程的好坏要在一定的预算下评判。步数少时，没有哪种日程胜过一次剪完。
# - 移除通道后仍是普通网络，乘加次数和时间都变小；先排序、再微调，准确率就能保住。按范数选在这里赢了，在第 3.1 章输了。
# - 掩码里的零不省时间；CSR 在绝大部分为零时才省；减少单元总是省。
# - 彩票既要掩码，也要初始值。它胜过两个对照组，没有胜过稠密网络。
# - 列的顺序是免费的，排得好，2:4 就留得更多。
#
# **用到的函数**
#
# - `course_lib.pruning.mean_threshold_mask`、`course_lib.pruning.top_mask`、`course_lib.pruning.global_masks`、`course_lib.pruning.attach_masks`、
#   `course_lib.pruning.update_masks`、`course_lib.pruning.make_permanent`
# - `course_lib.pruning.sensitivity_scan`、`course_lib.pruning.layer_budgets`、`course_lib.pruning.budget_masks`
# - `course_lib.pruning.cubic_sparsity`、`course_lib.pruning.round_sparsity`
# - `course_lib.pruning.channel_scores`、`course_lib.pruning.remove_channels`、`course_lib.pruning.zero_channels`
# - `course_lib.pruning.snapshot`、`course_lib.pruning.find_ticket`、`course_lib.pruning.shuffled_masks`、`course_lib.pruning.mask_overlap`、
#   `course_lib.pruning.rewind`
# - `course_lib.pruning.n_ways`、`course_lib.pruning.best_permutation`、`course_lib.pruning.swap_permutation`、`course_lib.pruning.kept_score`、
#   `course_lib.pruning.permuted_n_m_mask`、`course_lib.pruning.n_m_mask`
# - `course_lib.measure.verdict`、`course_lib.measure.verdict_on_test_set`、`course_lib.measure.flips`、`course_lib.measure.macs`、
#   `course_lib.measure.speed_ratio`
# - `course_lib.measure.roofline.measure_machine`、`course_lib.measure.roofline.linear_work`、`course_lib.measure.roofline.fastest_s`
# - `course_lib.widgets.practice_pruning.budget_explorer`、`course_lib.widgets.practice_pruning.budget_values`、
#   `course_lib.widgets.practice_pruning.budget_figure`
#
# **练习：** 本章的练习还在计划中。有三个实验可以马上做：把第 7 节各轮的步数加到四倍（`n_epochs`），看它与一次剪完的差距怎样变化；在第 8 节改为留下范数*最小*的通道；在第 10 节加上第三轮。
# **前一章：** [3.1 · 权重剪枝](03_1_weight_pruning.ipynb)。

# %% [markdown] lang="en"
# **Sources.** The document, section 4.1 and its listing. Han, Pool, Tran, Dally, "Learning both Weights and Connections for
# Efficient Neural Networks", NeurIPS 2015 (scan, rounds). Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017. Zhu,
# Gupta, "To Prune, or Not to Prune", 2017. Dantzig, "Discrete-variable extremum problems", 1957 (knapsack). Williams, Waterman,
# Patterson, "Roofline", 2009. Frankle, Carbin, "The Lottery Ticket Hypothesis", ICLR 2019. Frankle et al., "Linear Mode
# Connectivity and the Lottery Ticket Hypothesis", ICML 2020. Pool, Yu, "Channel Permutations for N:M Sparsity", NeurIPS 2021.
# Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021.

# %% [markdown] lang="zh"
# **参考文献。** 原文第 4.1 节及其代码。Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks"，NeurIPS 2015（扫描、分轮）。Li et al., "Pruning Filters for Efficient ConvNets"，ICLR 2017。Zhu, Gupta, "To Prune, or Not to Prune"，2017。
# Dantzig, "Discrete-variable extremum problems"，1957（背包问题）。Williams, Waterman, Patterson, "Roofline"，2009。Frankle, Carbin, "The Lottery Ticket Hypothesis"，ICLR 2019。Frankle et al., "Linear Mode Connectivity and the Lottery Ticket Hypothesis"，ICML 2020。
# Pool, Yu, "Channel Permutations for N:M Sparsity"，NeurIPS 2021。Mishra et al., "Accelerating Sparse Deep Neural Networks"，2021。
