# %% [markdown] lang="en"
# # 1 · Background
#
# Section 1 of the document is three sentences: large models have become the key technique for hard tasks, so optimizing them is
# "crucial". No number, no formula. This chapter supplies both. What does a model cost? We count it (parameters, bytes,
# multiplications, memory traffic), predict from the counts how long a run must take on this very machine, and then use the clock.
# At the end we know what would make a model faster, and what would only look like it.

# %% [markdown] lang="zh"
# # 1 · 背景
#
# 原文第 1 节只有寥寥几句：大模型已经成为处理复杂任务的关键技术，所以模型优化“至关重要”。没有一个数字，也没有一个公式。
# 这一章把两者都补上。一个模型要花多少代价？我们先数清楚（参数、字节、乘法、访存量），再由这些数预测它在这台机器上最少要跑多久，
# 然后用秒表去量。学完之后你会知道：什么能让模型真的变快，什么只是看起来变快。

# %% [markdown] lang="en"
# **You will be able to** count parameters, bytes and multiply-accumulate operations of a network by hand; compute the arithmetic
# intensity of a layer; measure the roofline of a machine; predict the latency of a network from it; and say why weights, not
# arithmetic, decide the speed of a large language model.
#
# **Time** 60 minutes, about 10 seconds of them computing. **Memory** 1 GB. **Needs** chapter `00_start_here`; MNIST.

# %% [markdown] lang="zh"
# **学完本章，你能够** 手工数出一个网络的参数量、字节数和乘加运算次数；算出一层的计算强度；测出一台机器的屋顶线；
# 由此预测网络的延迟；并说清楚为什么决定大语言模型速度的是权重，而不是计算。
#
# **时间** 60 分钟，其中计算约 10 秒。**内存** 1 GB。**预备** 第 `00_start_here` 章；MNIST。

# %%
import inspect
from itertools import pairwise, product

import matplotlib.pyplot as plt
import torch
from torch import nn

from course_lib import plots
from course_lib.data import mnist
from course_lib.measure import accuracy, dense_bytes, macs, n_parameters, speed_ratio
from course_lib.measure.roofline import Work, fastest_s, layer_works, linear_work
from course_lib.measure.roofline import measure_machine, predicted_latency_s, tokens_per_second
from course_lib.models import lenet_5, lenet_300_100, mlp
from course_lib.training import train
from course_lib.widgets.background import roofline_explorer, roofline_figure, roofline_values

plots.use_course_style()
torch.set_num_threads(1)
_ = torch.manual_seed(0)

# %%
WIDTHS = (4, 16, 64, 256)  # hidden units of the networks in section 1
N_TRAIN = 20_000  # images that train them
BIG_BATCH = 1000
LARGE = 4096  # inputs and outputs of one layer of a large model
HUGE = 16_384  # at 8 bits still 268 MB, more than any size whose bandwidth we measure

# %% [markdown] lang="en"
# ## 1 · Why not simply take a small model?
#
# Because a large one answers better. Four networks 784-$n$-10, the same images, the same number of steps; only the width $n$
# changes. **Predict:** the widest has about sixty times the parameters of the narrowest. By which factor do the errors fall?

# %% [markdown] lang="zh"
# ## 1 · 直接用小模型不行吗？
#
# 因为大的答得更好。四个 784-$n$-10 的网络，图像相同，训练步数相同，只有宽度 $n$ 不同。
# **先猜：** 最宽的网络参数量约为最窄的六十倍，错误会降到几分之一？

# %%
digits = mnist()
part = digits.subset(N_TRAIN)
sizes, errors = [], []
for n in WIDTHS:
    model = mlp(784, n, 10)
    train(model, part.train_images, part.train_labels, n_epochs=2, description=f"{n} hidden units")
    sizes.append(n_parameters(model))
    errors.append(100 * (1 - accuracy(model.eval(), digits.test_images, digits.test_labels)))
    print(f"784-{n}-10: {sizes[-1]:7,} parameters, {errors[-1]:5.2f} % of 10,000 wrong")
print(f"{sizes[-1] / sizes[0]:.0f} times the parameters, errors divided by {errors[0] / errors[-1]:.1f}")
assert sizes[-1] > 60 * sizes[0] and errors[0] > 2 * errors[-1]
gains = [before - after for before, after in pairwise(errors)]
print("points gained by each factor of four:", *[f"{gain:.2f}" for gain in gains])
assert min(gains) > 0 and gains[0] > 5 * max(gains[1:])
ax = plots.curves({"784-n-10": (sizes, errors)}, "parameters", "test error (%)", log_x=True)
_ = ax.set_ylim(bottom=0)

# %% [markdown] lang="en"
# Larger is better, but not evenly: the first factor of four buys by far the most; each one after that still helps, by a few points
# at the price of four times the parameters. That is the bargain that made models large, and the reason for this course: keep the
# answers of the large model, pay for a small one. First we must know what is being paid.

# %% [markdown] lang="zh"
# 越大越好，但好处并不均匀：头一次放大四倍，收益远远超过后面；再往后，每次都要多付三倍的参数，却只换来几个百分点。
# 模型就是这样一步步变大的，而这门课的目标正在于此：要大模型的答案，付小模型的价钱。那么先要弄清楚，付的到底是什么。

# %% [markdown] lang="en"
# ## 2 · The first cost: parameters and bytes
#
# A linear layer holds a weight for each pair of input and output, and a bias an output; a convolution a small filter for each pair
# of channels:
#
# $$ n_{\text{linear}} = n_{\text{out}}\, n_{\text{in}} + n_{\text{out}}, \qquad
#    n_{\text{conv}} = n_{\text{out}}\, n_{\text{in}}\, k_h k_w + n_{\text{out}}, \qquad
#    \text{bytes} = n\, b / 8 $$
#
# where $b$ is the number of bits a parameter takes: 32 as trained. Two networks stay with us through the course: LeNet-300-100,
# three linear layers, and LeNet-5, two convolutions and two linear layers. **Predict** which has more parameters.

# %% [markdown] lang="zh"
# ## 2 · 第一笔代价：参数与字节
#
# 线性层里，每一对输入与输出之间有一个权重，每个输出再加一个偏置；卷积层里，每一对通道之间有一个小滤波器：
#
# $$ n_{\text{linear}} = n_{\text{out}}\, n_{\text{in}} + n_{\text{out}}, \qquad
#    n_{\text{conv}} = n_{\text{out}}\, n_{\text{in}}\, k_h k_w + n_{\text{out}}, \qquad
#    \text{bytes} = n\, b / 8 $$
#
# 其中 $b$ 是每个参数占的比特数，训练时为 32。有两个网络会陪伴我们整门课：LeNet-300-100，三个线性层；
# LeNet-5，两个卷积层加两个线性层。**先猜**哪个参数更多。

# %%
by_hand = {
    "LeNet-300-100": sum(o * i + o for i, o in [(784, 300), (300, 100), (100, 10)]),
    "LeNet-5": sum(o * i * 5 * 5 + o for i, o in [(1, 20), (20, 50)])
    + sum(o * i + o for i, o in [(800, 500), (500, 10)]),
}
networks = {"LeNet-300-100": lenet_300_100(), "LeNet-5": lenet_5()}
for name, net in networks.items():
    kilobytes = [f"{dense_bytes(net, b) / 1000:.0f} kB at {b} bits" for b in (32, 8, 4)]
    print(f"{name:14} {n_parameters(net):,} parameters;", ", ".join(kilobytes))
    assert n_parameters(net) == by_hand[name]

# %% [markdown] lang="en"
# LeNet-5 is the larger. Bits divide the bytes, that is all quantization promises at this point; what it costs in answers is the
# subject of chapter 3.2.

# %% [markdown] lang="zh"
# LeNet-5 更大。比特数减半，字节数就减半，量化在这里承诺的只有这么多；它要付出多少准确率，是第 3.2 章的主题。

# %% [markdown] lang="en"
# ## 3 · The second cost: multiplications
#
# A network is a sum of products. One multiplication with its addition is a MAC (multiply-accumulate operation); a linear layer
# needs one for each weight and sample, a convolution uses each weight again at every position of its output:
#
# $$ \text{MACs}_{\text{linear}} = B\, n_{\text{out}}\, n_{\text{in}}, \qquad
#    \text{MACs}_{\text{conv}} = B\, n_{\text{out}}\, h_{\text{out}} w_{\text{out}}\, n_{\text{in}}\, k_h k_w $$
#
# Written out for a layer like the first of LeNet-5, twenty filters of 5x5, on a small image so that the loops end soon:

# %% [markdown] lang="zh"
# ## 3 · 第二笔代价：乘法
#
# 网络就是许多乘积之和。一次乘法加一次加法叫做一次 MAC（乘加运算）。线性层里，每个权重对每个样本做一次；
# 卷积层里，输出的每个位置都要把全部权重重新用一遍：
#
# $$ \text{MACs}_{\text{linear}} = B\, n_{\text{out}}\, n_{\text{in}}, \qquad
#    \text{MACs}_{\text{conv}} = B\, n_{\text{out}}\, h_{\text{out}} w_{\text{out}}\, n_{\text{in}}\, k_h k_w $$
#
# 把 LeNet-5 第一层那样的卷积写成循环来数（为了快些，图像取小一点）：

# %%
conv, x = nn.Conv2d(1, 20, 5), torch.rand(1, 1, 8, 8)
pixels, filters = x[0, 0].tolist(), conv.weight[:, 0].tolist()
H, count = torch.empty(20, 4, 4), 0
for o, r, c in product(range(20), range(4), range(4)):
    total = conv.bias[o].item()
    for i, j in product(range(5), range(5)):
        total += filters[o][i][j] * pixels[r + i][c + j]
        count += 1
    H[o, r, c] = total
assert torch.allclose(H, conv(x)[0], atol=1e-5)  # the loops are the convolution
print(count, "by loops,", macs(nn.Sequential(conv), x)["0"], "by the library")
assert count == macs(nn.Sequential(conv), x)["0"] == 20 * 4 * 4 * 1 * 5 * 5

# %% [markdown] lang="en"
# **Predict:** LeNet-5 has 1.6 times the parameters of LeNet-300-100. How many times the MACs? And which of its four layers does
# most of the work?

# %% [markdown] lang="zh"
# **先猜：** LeNet-5 的参数量是 LeNet-300-100 的 1.6 倍，它的乘加次数是几倍？四层之中，哪一层干活最多？

# %%
image = digits.test_images[:1]
work = {name: macs(net, image) for name, net in networks.items()}
ratios = [by_hand["LeNet-5"] / by_hand["LeNet-300-100"]]
ratios.append(sum(work["LeNet-5"].values()) / sum(work["LeNet-300-100"].values()))
print(f"LeNet-5 has {ratios[0]:.1f} times the parameters and {ratios[1]:.1f} times the MACs")

net = networks["LeNet-5"]
layers = {"conv 1": net[1], "conv 2": net[3], "linear 1": net[6], "linear 2": net[8]}
share_n = [100 * n_parameters(layer) / n_parameters(net) for layer in layers.values()]
share_macs = [100 * m / sum(work["LeNet-5"].values()) for m in work["LeNet-5"].values()]
for name, a, b in zip(layers, share_n, share_macs):
    print(f"{name:9} {a:5.1f} % of the parameters, {b:5.1f} % of the MACs")
assert round(ratios[0], 1) == 1.6 and ratios[1] > 8

# %%
fig, ax = plt.subplots()
place = torch.arange(len(layers))
ax.bar(place - 0.2, share_n, 0.4, label="parameters", color=plots.COLORS[0])
ax.bar(place + 0.2, share_macs, 0.4, label="MACs", color=plots.COLORS[1], hatch="//")
ax.set(xticks=place, xticklabels=list(layers), ylabel="share (%)")
ax.set_title("LeNet-5: where the numbers are, and where the work is")
ax.legend()
assert share_n[2] > 90 and share_macs[0] + share_macs[1] > 80

# %% [markdown] lang="en"
# The figure shows two different networks in one: more than nine tenths of the numbers sit in one linear layer, more than four
# fifths of the work is done by the convolutions. To make the *file* small, prune the linear layer; to save *arithmetic*, remove
# channels of the convolutions. "Smaller" and "faster" are two goals, and a method can reach one and miss the other.

# %% [markdown] lang="zh"
# 图里像是两个不同的网络：九成以上的参数集中在一个线性层，而八成以上的计算由卷积完成。要让*文件*变小，就剪那个线性层；
# 要省*计算*，就去掉卷积的通道。“更小”和“更快”是两个目标，一种方法完全可能达到其一而错过其二。

# %% [markdown] lang="en"
# ## 4 · The third cost: memory traffic
#
# Before a number can be multiplied it must be fetched. For a linear layer with weights of $b$ bits, activations of 32 bits, and a
# batch of $B$ samples, one run needs at least
#
# $$ \text{flops} = 2 B\, n_{\text{in}} n_{\text{out}}, \qquad
#    \text{bytes} = \underbrace{n_{\text{in}} n_{\text{out}} \tfrac{b}{8}}_{\text{weights}} + 4 n_{\text{out}} +
#    \underbrace{4 B (n_{\text{in}} + n_{\text{out}})}_{\text{activations}}, \qquad I = \frac{\text{flops}}{\text{bytes}} $$
#
# (a MAC is two flops). $I$ is the *arithmetic intensity*: how many calculations one fetched byte feeds. First as loops on a tiny
# layer, then the library's line:

# %% [markdown] lang="zh"
# ## 4 · 第三笔代价：访存量
#
# 一个数要先从内存取来，才能参与乘法。一个线性层，权重 $b$ 比特，激活值 32 比特，一批 $B$ 个样本，跑一次至少需要
#
# $$ \text{flops} = 2 B\, n_{\text{in}} n_{\text{out}}, \qquad
#    \text{bytes} = \underbrace{n_{\text{in}} n_{\text{out}} \tfrac{b}{8}}_{\text{weights}} + 4 n_{\text{out}} +
#    \underbrace{4 B (n_{\text{in}} + n_{\text{out}})}_{\text{activations}}, \qquad I = \frac{\text{flops}}{\text{bytes}} $$
#
# （一次 MAC 是两次浮点运算）。$I$ 叫做*计算强度*：每取来一个字节，能喂饱多少次运算。先在一个小层上用循环数，再看库里的那一行：

# %%
B, n_in, n_out, n_bits = 2, 3, 4, 8
flops = bytes_moved = 0
for _ in product(range(B), range(n_out), range(n_in)):
    flops += 2
for _ in range(n_out):
    bytes_moved += n_in * n_bits / 8 + 4  # a row of weights and its bias, once for the whole batch
for _ in range(B):
    bytes_moved += 4 * n_in + 4 * n_out  # activations in, activations out
print(inspect.getsource(linear_work).split('"""')[2])
assert linear_work(B, n_in, n_out, n_bits) == Work(flops, bytes_moved)

# %% [markdown] lang="en"
# A batch shares the fetched weights. **Predict** the intensity of a 4096x4096 layer in fp32 for one sample, and for a thousand.
#
# <details><summary>Hint</summary>For one sample each weight, four bytes, is used for one multiplication and one addition.</details>

# %% [markdown] lang="zh"
# 同一批样本共用取来的权重。**先猜**一个 4096x4096 的 fp32 层，一个样本时计算强度是多少，一千个样本时又是多少。
#
# <details><summary>提示</summary>只有一个样本时，每个权重占四个字节，只参与一次乘法和一次加法。</details>

# %%
for B, n_bits in [(1, 32), (1, 8), (1, 4), (BIG_BATCH, 32)]:
    need = linear_work(B, LARGE, LARGE, n_bits)
    share = LARGE**2 * n_bits / 8 / need.n_bytes
    print(f"batch {B:4}, {n_bits:2} bits: {need.intensity:7.2f} flop/byte, weights are {share:.1%} of the traffic")
assert abs(linear_work(1, LARGE, LARGE).intensity - 0.5) < 0.01
assert linear_work(BIG_BATCH, LARGE, LARGE).intensity > 300

# %% [markdown] lang="en"
# Half a flop a byte: at batch 1, practically all traffic is weights, and each is used once. Nothing about this depends on the
# size of the layer. It is the situation of every language model that answers one reader, one token after the other.

# %% [markdown] lang="zh"
# 每字节半次运算：一个样本时，访存量几乎全是权重，而且每个权重只用一次。这与层的大小无关。
# 大语言模型为一位读者逐个吐出词元时，处境正是如此。

# %% [markdown] lang="en"
# ## 5 · This machine
#
# Two numbers of the machine meet these counts: the peak $P$ in flop/s, and the bandwidth $\beta$ in byte/s. Both are measured, on
# one thread: $P$ by a product of two 512x512 matrices (some 85 flops a byte, so memory cannot hold it up), $\beta$ by summing a
# vector (one addition a number, so arithmetic cannot). A third number is what a call costs by itself. We keep the fastest of
# several runs: a roof is what the machine can do, and other programs only add time.

# %% [markdown] lang="zh"
# ## 5 · 这台机器
#
# 与这些计数相对的，是机器的两个数：峰值算力 $P$（flop/s）和带宽 $\beta$（byte/s）。两者都在一个线程上实测：
# $P$ 用两个 512x512 矩阵的乘积来测（每字节约 85 次运算，内存拖不住它），$\beta$ 用对一个向量求和来测（每个数只加一次，计算拖不住它）。
# 第三个数是一次调用本身的开销。几次运行中只取最快的一次：屋顶线说的是机器能做到什么，而别的程序只会让时间变长。

# %%
assert round(2 * 512**3 / (3 * 4 * 512**2)) == 85  # flops over the bytes of three matrices
machine = measure_machine()
print(f"peak {machine.peak_flops / 1e9:.0f} GFLOP/s, one call costs {1e6 * machine.overhead_s:.1f} µs by itself")
for size, bandwidth in machine.bandwidths.items():
    print(f"{size / 1e6:6.1f} MB read again and again: {bandwidth / 1e9:5.1f} GB/s")
sizes_mb = [size / 1e6 for size in machine.bandwidths]
speeds = [bandwidth / 1e9 for bandwidth in machine.bandwidths.values()]
ax = plots.curves({"sum of a vector": (sizes_mb, speeds)}, "MB that are read", "GB/s", log_x=True)
_ = ax.set_ylim(bottom=0)
assert machine.peak_flops > machine.bandwidth / 4  # more than one flop for a number that is read

# %% [markdown] lang="en"
# The curve falls where the data outgrow a cache: a megabyte read again and again comes from there, several times faster than
# from memory. (Far left it is low again: so little data are read in no time, and the call itself is what is measured.) Keep this
# in mind whenever someone shows you a "speed-up": a model that is made small enough to fit a cache gains from that, not from
# arithmetic.

# %% [markdown] lang="zh"
# 数据装不下缓存的地方，曲线就掉下去：反复读一兆字节，读的其实是缓存，比内存快好几倍。
# （最左端又低下来：数据太少，一眨眼就读完了，量到的是调用本身的开销。）以后看到别人宣称“加速”，记得想一想：
# 模型小到装得进缓存，快是快在缓存上，而不是快在计算上。

# %% [markdown] lang="en"
# ## 6 · The roofline
#
# Fetching and calculating go on at the same time, so the slower of the two decides:
#
# $$ t \ge \max\Bigl(\frac{\text{flops}}{P},\ \frac{\text{bytes}}{\beta}\Bigr)
#    \qquad\Longleftrightarrow\qquad \frac{\text{flops}}{t} \le \min\bigl(P,\ I\,\beta\bigr), \qquad I^* = P / \beta $$
#
# Left of the *ridge* $I^*$ memory decides, right of it arithmetic. **Predict** on which side these lie: LeNet-300-100 at batch 1
# and at batch 1000; LeNet-5 at batch 100; a 4096x4096 layer at batch 1 and 256. Then let each run and see how close it comes.

# %% [markdown] lang="zh"
# ## 6 · 屋顶线模型
#
# 取数与计算同时进行，所以由慢的那个说了算：
#
# $$ t \ge \max\Bigl(\frac{\text{flops}}{P},\ \frac{\text{bytes}}{\beta}\Bigr)
#    \qquad\Longleftrightarrow\qquad \frac{\text{flops}}{t} \le \min\bigl(P,\ I\,\beta\bigr), \qquad I^* = P / \beta $$
#
# 在*屋脊* $I^*$ 的左边，速度由内存决定；右边，速度由计算决定。**先猜**下面几个各在哪一边：LeNet-300-100，批大小 1 和 1000；
# LeNet-5，批大小 100；4096x4096 的一层，批大小 1 和 256。然后逐个跑一遍，看看它们离屋顶有多近。

# %%
large = nn.Sequential(nn.Linear(LARGE, LARGE))
cases = {
    "LeNet-300-100, batch 1": (networks["LeNet-300-100"], digits.test_images[:1]),
    f"LeNet-300-100, batch {BIG_BATCH}": (networks["LeNet-300-100"], digits.test_images[:BIG_BATCH]),
    "LeNet-5, batch 1": (networks["LeNet-5"], digits.test_images[:1]),
    "LeNet-5, batch 100": (networks["LeNet-5"], digits.test_images[:100]),
    "4096 x 4096, batch 1": (large, torch.rand(1, LARGE)),
    "4096 x 4096, batch 256": (large, torch.rand(256, LARGE)),
}


@torch.no_grad()
def run_s(net, X):
    return fastest_s(lambda: net(X), 40 if len(X) <= 16 else 8)


totals = {name: sum(layer_works(net, X).values(), Work(0, 0)) for name, (net, X) in cases.items()}
measured = {name: run_s(net, X) for name, (net, X) in cases.items()}


# %%
def hollow(ax):
    """Outlines instead of filled markers: two marks on one spot can both be seen."""
    for line in ax.lines:
        line.set(markerfacecolor="none", markeredgewidth=2)
    ax.legend(fontsize=9, loc="lower right")


points = {name: (w.intensity, w.flops / measured[name], w.n_bytes) for name, w in totals.items()}
figure, ax = plt.subplots(figsize=(9, 5))
hollow(roofline_figure(machine, points, ax))

# %% [markdown] lang="en"
# Read the figure from left to right. The rising lines are memory and the fastest cache, the flat one is the peak; the thin line
# above a point reaches up to its own roof. At batch 1 both linear networks sit at half a flop a byte, on the slope: LeNet-300-100
# below the cache's, since its megabyte fits there; the large layer below that of memory. Large batches move to the right, under the
# flat roof. The convolutions of LeNet-5 stay well below it. Now turn the knobs yourself: which moves a point further to the right
# at batch 1, four times the batch, or a quarter of the bits?

# %% [markdown] lang="zh"
# 从左往右看图。两条上升的线分别是内存和最快的缓存，平的那条是峰值；每个点上方的细线，通到它自己的屋顶。
# 批大小为 1 时，两个线性网络都在每字节半次运算处，位于斜坡上：LeNet-300-100 在缓存那条线之下，因为它只有一兆字节，装得进去；
# 大的那一层则在内存那条线之下。批大小变大，点就移到右边的平顶之下。LeNet-5 的卷积离屋顶还差得远。
# 现在自己拧一拧旋钮：批大小为 1 时，批大小乘以四，与比特数除以四，哪个能把点往右移得更远？

# %%
roofline_explorer(machine)

# %% [markdown] lang="en"
# The same as a static figure, for a layer so huge (16384x16384) that even its 8-bit weights exceed every size in section 5, so that
# all marks belong to the slope of memory. Four samples at a time, or weights of 8 bits, make it four times as intense: the
# triangle and the square nearly coincide. The times in the legend do not: the bits shorten the run, the batch only shares it.
#
# Did the explorer promise *more* than a factor of four for the 4096x4096 layer at 8 bits? Then its 17 MB fit into a cache of this
# machine, which the 67 MB of fp32 did not. The surplus is the cache's; the last line of output takes the two apart.

# %% [markdown] lang="zh"
# 同样的内容画成静态图。这次取一个特别大的层（16384x16384），权重压到 8 比特之后，仍然比第 5 节测过的任何大小都大，
# 所以各点对应的都是内存那条斜坡。四个样本一起算，或者把权重压到 8 比特，计算强度都变成原来的四倍：三角与方块几乎重合。
# 图例里的时间却不一样：减少比特缩短了运行时间，加大批只是让更多样本来分摊它。
#
# 如果在上面的互动图里，4096x4096 的那一层压到 8 比特后，快了*不止*四倍，那是因为 17 MB 装得进这台机器的某级缓存，而 fp32 的 67 MB 装不进去。
# 多出来的部分是缓存的功劳；输出的最后一行把两者分开来算。

# %%
static, shortest = {}, {}
for B, n_bits in [(1, 32), (4, 32), (1, 8), (1024, 32)]:
    need, seconds, bound, _ = roofline_values(machine, HUGE, HUGE, B, n_bits)
    shortest[B, n_bits] = seconds
    static[f"batch {B}, {n_bits} bits: at least {1e3 * seconds:.1f} ms, {bound}"] = (
        need.intensity, need.flops / seconds, need.n_bytes
    )
figure, ax = plt.subplots(figsize=(9, 4.5))
hollow(roofline_figure(machine, static, ax))

# %%
one = linear_work(1, HUGE, HUGE)
assert all(3.9 < linear_work(B, HUGE, HUGE, b).intensity / one.intensity < 4.01 for B, b in [(4, 32), (1, 8)])
if machine.ridge > 2:  # flop/byte: then both marks lie on the slope, as on all but unusual machines
    assert 3.9 < shortest[1, 32] / shortest[1, 8] < 4.01  # the bits shorten the run
    assert 1 <= shortest[4, 32] / shortest[1, 32] < 1.01  # the batch takes as long, and shares it
fp32, int8 = linear_work(1, LARGE, LARGE, 32), linear_work(1, LARGE, LARGE, 8)
by_bits = fp32.n_bytes / int8.n_bytes
by_cache = machine.bandwidth_at(int8.n_bytes) / machine.bandwidth_at(fp32.n_bytes)
print(f"4096 x 4096 at 8 bits: {by_bits:.2f} times fewer bytes, read {by_cache:.2f} times as fast")

# %% [markdown] lang="en"
# ## 7 · Predicted and measured
#
# Adding the roof's time over the layers, and the cost of each call, gives a prediction before anything has run:
#
# $$ t = \sum_{\text{layers}} \max\Bigl(\frac{\text{flops}}{P}, \frac{\text{bytes}}{\beta}\Bigr) + t_{\text{call}} $$
#
# with $\beta$ for all the bytes that one run touches. **Predict the prediction's error**: 10 %, a factor of 2, of 10?

# %% [markdown] lang="zh"
# ## 7 · 预测与实测
#
# 把每一层的屋顶线时间加起来，再加上每次调用的开销，还没运行就能得到一个预测：
#
# $$ t = \sum_{\text{layers}} \max\Bigl(\frac{\text{flops}}{P}, \frac{\text{bytes}}{\beta}\Bigr) + t_{\text{call}} $$
#
# 其中 $\beta$ 取一次运行所触及的全部字节对应的带宽。**猜一猜这个预测差多少**：10 %，两倍，还是十倍？

# %%
off = {}
for name, (net, X) in cases.items():
    predicted = predicted_latency_s(layer_works(net, X), machine)
    off[name] = measured[name] / predicted
    times = f"predicted {1e3 * predicted:7.3f} ms, measured {1e3 * measured[name]:7.3f} ms"
    print(f"{name:26} {times}, ratio {off[name]:.2f}")
calls = len(layer_works(*cases["LeNet-300-100, batch 1"])) * machine.overhead_s
print(f"LeNet-300-100 at batch 1: {calls / measured['LeNet-300-100, batch 1']:.0%} of the time are the calls")
# The claim is a factor of 2 for linear layers; 4 leaves room for other processors and for a neighbour on this one.
assert all(1 / 4 < ratio < 4 for name, ratio in off.items() if not name.startswith("LeNet-5"))
assert all(ratio > 1 / 2 for ratio in off.values())

# %% [markdown] lang="en"
# For linear layers the prediction holds within a factor of two, usually much less, over times that differ a thousandfold. For
# the convolutions of LeNet-5 it is too optimistic by a factor of several: with one or twenty input channels a kernel must first
# rearrange the image, and its small products do not fill the processor. The roof is a bound, not a promise; the distance from it
# says how much a better kernel could gain. And LeNet-300-100 is so small that at batch 1 most of its time goes into the calls
# themselves: there, fewer and larger operations would help more than any compression.

# %% [markdown] lang="zh"
# 对线性层，预测与实测相差在两倍以内，通常小得多，而这些时间本身相差上千倍。对 LeNet-5 的卷积，预测乐观了好几倍：
# 输入通道只有一个或二十个，计算之前要先把图像重新排列，小规模的乘积也喂不饱处理器。屋顶是上限，不是承诺；
# 离屋顶有多远，说明更好的实现还能赚回多少。另外，LeNet-300-100 太小了，批大小为 1 时大部分时间花在调用本身上：
# 这时把零碎的运算合并起来，比任何压缩都管用。

# %% [markdown] lang="en"
# ## 8 · What makes a layer faster at batch 1, and what does not
#
# Three changes to the 4096x4096 layer. **Predict** the time of each relative to the dense layer, from the formula alone:
#
# 1. nine tenths of the weights are set to zero, in place;
# 2. half of the rows are removed: 2048 outputs remain;
# 3. sixteen samples instead of one.
#
# <details><summary>Hint</summary>Which of them changes the number of bytes that are fetched?</details>

# %% [markdown] lang="zh"
# ## 8 · 批大小为 1 时，什么能让一层变快，什么不能
#
# 对 4096x4096 的那一层做三种改动。只凭公式，**先猜**每种改动之后，所花时间与稠密层相比如何：
#
# 1. 九成的权重就地置零；
# 2. 去掉一半的行，只留 2048 个输出；
# 3. 样本由一个变成十六个。
#
# <details><summary>提示</summary>哪一种改变了要取的字节数？</details>

# %%
dense, zeroed, halved = nn.Linear(LARGE, LARGE), nn.Linear(LARGE, LARGE), nn.Linear(LARGE, LARGE // 2)
with torch.no_grad():
    zeroed.weight.mul_(torch.rand(LARGE, LARGE) < 0.1)
x, X16 = torch.rand(1, LARGE), torch.rand(16, LARGE)
runs = {"nine tenths zeros": (zeroed, x), "half the rows": (halved, x), "sixteen samples": (dense, X16)}
speed = {}
with torch.no_grad():
    for name, (layer, v) in runs.items():  # each in turn with the dense layer on one sample
        speed[name] = speed_ratio(lambda: dense(x), lambda layer=layer, v=v: layer(v), n_repeats=15, at_least_s=0.0)
        print(f"{name:18} speed {speed[name]}")
print(f"a sample of the sixteen: {16 * speed['sixteen samples'].ratio:.1f} times as fast as one by itself")
# Margins for caches that keep part of the 67 MB, and for kernels that treat one row unlike sixteen.
assert speed["nine tenths zeros"].low < 3  # and not 10; a busy machine stretches single runs, so an end of the interval is asked
assert speed["half the rows"].high > 1.25
assert speed["sixteen samples"].high > 1 / 13

# %% [markdown] lang="en"
# Each line is a ratio of speeds (above 1 is faster) from runs in turn, with a 95 % interval in brackets.
#
# - **Zeros** are fetched and multiplied like any number. Nine tenths fewer useful products would be ten times the speed; the
#   ratio stays near 1, and where the interval contains 1 no gain is shown. Sparsity pays only in a format that does not store
#   zeros and with a kernel that skips them (chapter 3.1), or where whole rows go.
# - **Removed rows** are bytes not fetched: half of them is twice the speed where both layers come from memory. A ratio or an
#   interval that goes well above 2 is the cache again: part of 34 MB stays where 67 MB did not.
# - **Sixteen samples** are sixteen times the arithmetic, and take far less than sixteen times as long, because they share the
#   weights. This is why servers collect requests into batches, and why a single reader cannot profit from that.
#
# What remains for the single reader is fewer bytes a weight. A quarter of the bits allows four times the speed (more only
# where a cache comes in, section 6), if the kernel reads packed weights; rounding them and leaving them in fp32, as
# experiments do, changes nothing about the time.

# %% [markdown] lang="zh"
# 每一行是速度之比（大于 1 就是更快），由交替运行成对测得，方括号里是 95 % 区间。
#
# - **零**和别的数一样要取、要乘。有用的乘积只剩十分之一，照理该快十倍；实际比值却在 1 附近，只要区间包含 1，就不能说变快了。
#   稀疏只有在两种情况下才有收益：存储格式不存零、计算时也跳过零（第 3.1 章），或者整行整行地去掉。
# - **去掉的行**是不用再取的字节：两层都从内存读取时，字节少一半，速度就是两倍。如果比值或区间上端明显超过 2，那又是缓存的缘故：
#   67 MB 留不住，34 MB 却能留住一部分。
# - **十六个样本**的计算量是十六倍，花的时间却远不到十六倍，因为它们共用权重。服务器要把请求凑成一批，道理就在这里；
#   而只有一位读者时，就沾不到这个光。
#
# 留给这一位读者的办法，是让每个权重少占字节。比特数除以四，速度可以快到四倍（再快就是沾了缓存的光，见第 6 节），前提是计算内核直接读取打包的权重；
# 像实验中那样只做四舍五入、仍以 fp32 存放，时间不会有任何变化。

# %% [markdown] lang="en"
# ## 9 · The same formulas, 26,000 times larger
#
# From LeNet-300-100 to 7 billion parameters. A language model with $n$ parameters reads all of them for each token that it
# writes, so for one reader
#
# $$ \text{tokens/s} \le \frac{\beta}{n\, b / 8} $$
#
# **Predict** for 7 billion parameters: does it fit into 16 GB in fp16? How fast can one core of this machine write with it, at
# most? (The other bandwidths come from data sheets; see the sources.)

# %% [markdown] lang="zh"
# ## 9 · 同样的公式，放大 26,000 倍
#
# 从 LeNet-300-100 到七十亿参数。一个有 $n$ 个参数的语言模型，每写一个词元都要把全部参数读一遍，所以对一位读者来说
#
# $$ \text{tokens/s} \le \frac{\beta}{n\, b / 8} $$
#
# **先猜**七十亿参数的情形：fp16 时装得进 16 GB 吗？用这台机器的一个核，最快每秒能写多少个词元？（其余带宽取自产品手册，见参考文献。）

# %%
N_LLM = 7e9
assert round(N_LLM / n_parameters(networks["LeNet-300-100"]), -3) == 26_000
assert round(2 * 8 * 5.6e9, -9) == 90e9  # DDR5-5600: two channels, 8 bytes a transfer
bandwidths = {"this thread": machine.bandwidth, "DDR5 laptop": 90e9, "H100 GPU": 3350e9}  # byte/s
print("tokens/s at most:  ", *[f"{name:>12}" for name in bandwidths])
for n_bits in (32, 16, 8, 4):
    rates = [tokens_per_second(N_LLM, n_bits, beta) for beta in bandwidths.values()]
    print(f"{n_bits:2} bits, {N_LLM * n_bits / 8 / 1e9:4.1f} GB:  ", *[f"{rate:12.1f}" for rate in rates])
assert N_LLM * 16 / 8 < 16e9 < N_LLM * 32 / 8
assert tokens_per_second(N_LLM, 4, 90e9) == 4 * tokens_per_second(N_LLM, 16, 90e9)

# %% [markdown] lang="en"
# At 4 bits instead of 16 the model is a quarter as large *and*, on the slope, four times as fast. No other trick gives both, which
# is why chapter 3.2 is the longest.
#
# Training is the other end of the roof: batches of millions of tokens, arithmetic decides. Each token costs two flops a
# parameter forwards and four backwards, so
#
# $$ \text{flops} \approx 6\, n\, D $$
#
# for $D$ tokens. Touvron et al. (2023) published that LLaMA-7B, 6.7 billion parameters, was trained on $10^{12}$ tokens in
# 82,432 hours of an A100, whose peak is 312 TFLOP/s. Does the formula agree?

# %% [markdown] lang="zh"
# 由 16 比特降到 4 比特，模型的大小变成四分之一；在斜坡上，速度*同时*变成四倍。没有别的办法能一举两得，所以第 3.2 章最长。
#
# 训练则在屋顶的另一端：每批上百万个词元，速度由计算决定。每个词元对每个参数，前向花两次运算，反向花四次，因此
#
# $$ \text{flops} \approx 6\, n\, D $$
#
# 其中 $D$ 是词元数。Touvron 等人（2023）公布：LLaMA-7B 有 67 亿参数，用 $10^{12}$ 个词元训练，花了 82,432 个 A100 小时，
# A100 的峰值是 312 TFLOP/s。公式对得上吗？

# %%
flops = 6 * 6.7e9 * 1e12
used = flops / (82_432 * 3600)
print(f"{flops:.1e} flop; each A100 did {used / 1e12:.0f} TFLOP/s, {used / 312e12:.0%} of its peak")
print(f"82,432 hours are {82_432 / 24 / 365:.1f} years of one GPU")
years = flops / machine.peak_flops / 3600 / 24 / 365
print(f"one thread of this machine, at its peak, would need {years:,.0f} years")
assert 0.35 < used / 312e12 < 0.45 and 9 < 82_432 / 24 / 365 < 10

# %% [markdown] lang="en"
# The published time is what the formula gives for GPUs at about two fifths of their peak, a usual share for large training
# runs. One line of arithmetic accounts for more than nine years of GPU time. That is what counting first is good for.

# %% [markdown] lang="zh"
# 公布的时间正好相当于 GPU 跑在峰值的五分之二左右，对大规模训练来说很常见。一行算式，就解释了九年多的 GPU 时间。
# 先数一数，好处就在这里。

# %% [markdown] lang="en"
# ## Summary
#
# - A model costs parameters (bytes), MACs (arithmetic) and traffic (bandwidth). The three need not sit in the same layer.
# - Time is at least the larger of flops over peak and bytes over bandwidth; the intensity says which.
# - At batch 1 weights are the traffic, each used once: half a flop a byte in fp32. Fewer bytes a weight means faster; zeros that
#   are still stored do not.
# - The prediction holds within a factor of two for linear layers; convolutions with few channels miss their roof.
# - Caches flatter small models: state the sizes when you quote a speed-up.
#
# **Functions used**
#
# - `course_lib.models.mlp`, `course_lib.models.lenet_300_100`, `course_lib.models.lenet_5`, `course_lib.data.mnist`,
#   `course_lib.training.train`
# - `course_lib.measure.n_parameters`, `course_lib.measure.dense_bytes`, `course_lib.measure.macs`,
#   `course_lib.measure.accuracy`, `course_lib.measure.speed_ratio`
# - `course_lib.measure.roofline.linear_work`, `course_lib.measure.roofline.layer_works`,
#   `course_lib.measure.roofline.Work`, `course_lib.measure.roofline.fastest_s`
# - `course_lib.measure.roofline.measure_machine` (it returns a `Machine`), `course_lib.measure.roofline.predicted_latency_s`,
#   `course_lib.measure.roofline.tokens_per_second`
# - `course_lib.plots.use_course_style`, `course_lib.plots.curves`
# - `course_lib.widgets.background.roofline_explorer`, `course_lib.widgets.background.roofline_figure`,
#   `course_lib.widgets.background.roofline_values`
#
# **Exercises**
#
# 1. From which batch size on is a 4096x4096 layer bound by arithmetic on this machine? Solve $I = I^*$ by hand, then check with
#    `machine.bound_by(linear_work(B, LARGE, LARGE))`.
# 2. Quantize the weights to 4 bits: how does that batch size change, and what does it mean for a server?
# 3. Find a batch size at which LeNet-300-100 leaves the cache of this machine. Does the prediction notice?
#
# **Next** [2.1 · Core concepts](02_1_core_concepts.ipynb): when is one model better than another?
#
# **Sources**
#
# - Williams, Waterman, Patterson (2009), Roofline: an insightful visual performance model for multicore architectures,
#   *Communications of the ACM* 52.
# - McCalpin (1995), Memory bandwidth and machine balance in current high performance computers, *IEEE TCCA Newsletter*.
# - Kaplan et al. (2020), Scaling laws for neural language models, *arXiv* 2001.08361: $6\,n\,D$.
# - Touvron et al. (2023), LLaMA: open and efficient foundation language models, *arXiv* 2302.13971, table 15.
# - Pope et al. (2023), Efficiently scaling transformer inference, *MLSys*.
# - NVIDIA, H100 Tensor Core GPU data sheet (SXM version, 3.35 TB/s) and A100 Tensor Core GPU data sheet (312 TFLOP/s, dense, in
#   16-bit floating point). The laptop: two channels of DDR5-5600, 64 bits each, $2 \cdot 8 \cdot 5.6 \cdot 10^9$ byte/s.

# %% [markdown] lang="zh"
# ## 小结
#
# - 一个模型的代价有三笔：参数（字节）、乘加运算（计算）、访存量（带宽）。三者不一定集中在同一层。
# - 时间至少是“运算量除以峰值”与“字节数除以带宽”中较大的那个；计算强度告诉你是哪一个。
# - 批大小为 1 时，访存量就是权重，每个只用一次：fp32 下每字节半次运算。每个权重少占字节才会变快；仍然存着的零不会。
# - 对线性层，预测准到两倍以内；通道很少的卷积够不着自己的屋顶。
# - 缓存会美化小模型：引用加速比时，要说明数据有多大。
#
# **用到的函数**
#
# - `course_lib.models.mlp`、`course_lib.models.lenet_300_100`、`course_lib.models.lenet_5`、`course_lib.data.mnist`、
#   `course_lib.training.train`
# - `course_lib.measure.n_parameters`、`course_lib.measure.dense_bytes`、`course_lib.measure.macs`、
#   `course_lib.measure.accuracy`、`course_lib.measure.speed_ratio`
# - `course_lib.measure.roofline.linear_work`、`course_lib.measure.roofline.layer_works`、
#   `course_lib.measure.roofline.Work`、`course_lib.measure.roofline.fastest_s`
# - `course_lib.measure.roofline.measure_machine`（返回一个 `Machine`）、`course_lib.measure.roofline.predicted_latency_s`、
#   `course_lib.measure.roofline.tokens_per_second`
# - `course_lib.plots.use_course_style`、`course_lib.plots.curves`
# - `course_lib.widgets.background.roofline_explorer`、`course_lib.widgets.background.roofline_figure`、
#   `course_lib.widgets.background.roofline_values`
#
# **练习**
#
# 1. 在这台机器上，4096x4096 的一层，批大小从多少开始，速度由计算决定？先手算 $I = I^*$，再用
#    `machine.bound_by(linear_work(B, LARGE, LARGE))` 核对。
# 2. 把权重量化到 4 比特，这个批大小会怎样变化？对服务器来说意味着什么？
# 3. 找一个批大小，使 LeNet-300-100 装不进这台机器的缓存。预测能看出来吗？
#
# **下一章** [2.1 · 核心概念](02_1_core_concepts.ipynb)：什么时候才能说一个模型比另一个更好？
#
# **参考文献**
#
# - Williams, Waterman, Patterson (2009), Roofline: an insightful visual performance model for multicore architectures,
#   *Communications of the ACM* 52。
# - McCalpin (1995), Memory bandwidth and machine balance in current high performance computers, *IEEE TCCA Newsletter*。
# - Kaplan et al. (2020), Scaling laws for neural language models, *arXiv* 2001.08361：$6\,n\,D$。
# - Touvron et al. (2023), LLaMA: open and efficient foundation language models, *arXiv* 2302.13971, table 15。
# - Pope et al. (2023), Efficiently scaling transformer inference, *MLSys*。
# - NVIDIA, H100 Tensor Core GPU 产品手册（data sheet，SXM 版，3.35 TB/s）与 A100 Tensor Core GPU 产品手册（data sheet，16 位浮点、稠密，312 TFLOP/s）。
#   笔记本电脑：双通道 DDR5-5600，每通道 64 位，$2 \cdot 8 \cdot 5.6 \cdot 10^9$ byte/s。
