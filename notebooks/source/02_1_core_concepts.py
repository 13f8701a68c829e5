# %% [markdown] lang="en"
# # 2.1 · Core concepts
#
# Section 2 of the document says that model optimization has two sides: making a model smaller and less complex so that it runs
# efficiently, and making it better, in accuracy and stability. Four words: size, complexity, accuracy, stability. In this chapter each
# becomes a number that you can predict, measure and compare, and you learn when a comparison is fair.

# %% [markdown] lang="zh"
# # 2.1 · 核心概念
#
# 原文第 2 节说，模型优化有两个方面：一是减小模型的大小和复杂度，让它运行得更高效；二是提高模型的准确性和稳定性。一共四个词：大小、复杂度、准确性、稳定性。这一章把每个词都变成可以预测、可以测量、可以比较的数，并弄清什么样的比较才算公平。

# %% [markdown] lang="en"
# **What you will be able to do**
#
# - tell four "compression ratios" of one and the same network apart, and say which one a user can rely on;
# - put an interval around an error rate, and say how many test images a difference needs;
# - draw a Pareto front, and let a limit choose a model from it, without looking at the test set;
# - show by experiment how choosing on the test set flatters, and by how much;
# - measure stability: spread over seeds, changed answers, and a verdict that may be *no difference shown*.
#
# **Time** 60 minutes · **Memory** below 1 GB · **Needs** chapter `01_background`; MNIST, which the first call fetches (20 MB, once).

# %% [markdown] lang="zh"
# **学完这一章，你能够**
#
# - 分清同一个网络的四种“压缩比”，并说出用户能信赖哪一种；
# - 给错误率加上置信区间，并说出一个差别需要多少张测试图像才看得出来；
# - 画出帕累托前沿，让约束条件从中挑出一个模型，而且不看测试集；
# - 用实验说明：在测试集上做选择会让结果偏乐观，以及偏多少；
# - 测量稳定性：不同随机种子之间的波动、改变的答案，以及一个结论（也可能是 *no difference shown*）。
#
# **时间** 60 分钟 · **内存** 不到 1 GB · **需要** 第 `01_background` 章；MNIST 数据，首次调用时自动下载（20 MB，仅此一次）。

# %%
import copy
import hashlib
import io
import itertools
import math
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean, stdev

import matplotlib.pyplot as plt
import torch

import course_lib
from course_lib import coding, measure, plots, storage
from course_lib.data import mnist
from course_lib.models import mlp
from course_lib.optimizers import Adam
from course_lib.pruning import global_masks, magnitude_score, prunable_weights
from course_lib.quantization import apply_codebook, kmeans_codebook
from course_lib.training import n_updates, train, warmup_cosine
from course_lib.widgets.concepts import Candidate, choice_figure, choice_text, choice_values, pareto_explorer, pareto_front

plots.use_course_style()
torch.set_num_threads(1)

# %%
N_TRAIN, N_EPOCHS = 20_000, 3  # part of the training digits, so that the chapter stays short; the same for every network
WIDTHS = ((300, 100), (100,), (32,), (16,), (8,))  # hidden layers of the dense networks
SPARSITIES, BITS = (0.0, 0.5, 0.6, 0.7, 0.8), (3, 4)  # of the compressed versions of the first one
N_SEEDS, N_TRAIN_SEEDS = 20, 6_400  # many small networks that differ in nothing but their seed
folder = Path(tempfile.mkdtemp())

# %% [markdown] lang="en"
# ## 1 · Three sets, three purposes
#
# A network learns from the training set. We choose with the validation set: which width, how many zeros, which epoch. The test set
# is opened once, to report. `hold_out` takes the validation images out of the 60,000 training digits, so nobody has to resist
# temptation. All networks of this chapter get the same budget: the same images, epochs, optimizer and schedule.

# %% [markdown] lang="zh"
# ## 1 · 三个集合，三种用途
#
# 网络从训练集学习。用验证集做选择：多宽、剪掉多少、停在哪一轮。测试集只打开一次，用来报告。`hold_out` 从 60,000 张训练图像里划出验证集，这样谁都不必靠自觉去抵抗诱惑。本章所有网络的预算相同：同样的图像、轮数、优化器和学习率调度。

# %%
final, choosing = mnist().hold_out()
print(
    f"{len(final.train_labels):,} to learn from, {len(choosing.test_labels):,} to choose, {len(final.test_labels):,} to report"
)


def fit(*widths, seed=0, n_train=N_TRAIN, n_epochs=N_EPOCHS):
    """One network: 784, widths, 10; the same recipe for all."""
    model, N = mlp(784, *widths, 10, seed=seed), n_updates(n_train, n_epochs)
    optimizer, schedule = Adam(model.parameters()), lambda step: warmup_cosine(step, N, 2e-3, N // 20)
    X, labels = final.train_images[:n_train], final.train_labels[:n_train]
    train(model, X, labels, n_epochs=n_epochs, optimizer=optimizer, schedule=schedule, seed=seed, progress=False)
    return model.eval()


# %%
dense = {widths: fit(*widths) for widths in WIDTHS}
large = dense[WIDTHS[0]]
n_test = len(final.test_labels)
large_errors = measure.n_errors(large, final.test_images, final.test_labels)
print(f"784-300-100-10: {measure.n_parameters(large):,} parameters, {large_errors} of {n_test:,} test images wrong")

# %% [markdown] lang="en"
# ## 2 · Size: one network, four ratios
#
# Take that network, erase the smallest 80 % of its weights, and let the remaining weights share 15 values (chapters
# [3.1](03_1_weight_pruning.ipynb) and [3.2](03_2_quantization.ipynb) say how and why). **Predict:** how much smaller has it become?
#
# <details><summary>Hint</summary>Count weights: a fifth is left. Count bits: a code for one of 15 values takes 4 of 32. Or
# look at a file. Which of these would your phone notice?</details>

# %% [markdown] lang="zh"
# ## 2 · 大小：一个网络，四种压缩比
#
# 取这个网络，剪掉绝对值最小的 80 % 的权重，让剩下的权重共用 15 个数值（做法和理由见第 [3.1](03_1_weight_pruning.ipynb) 和 [3.2](03_2_quantization.ipynb) 章）。**先猜：** 它变小了多少？
#
# <details><summary>提示</summary>数权重：剩下五分之一。数比特：给 15 个数值编号只要 4 比特，原来是 32 比特。或者看文件有多大。这几种数法里，你的手机能察觉的是哪一种？</details>


# %%
def compressed(model, sparsity, n_bits):
    """A copy: the smallest weights of the whole network zero, the others one of 2^n_bits - 1 values a layer (fp16)."""
    small = copy.deepcopy(model)
    weights = prunable_weights(small)
    masks = global_masks({name: magnitude_score(W) for name, W in weights.items()}, sparsity)
    for name, W in weights.items():
        codebook, codes = kmeans_codebook(W.detach(), 2**n_bits - 1, start="density", mask=masks[name])
        W.data.copy_(apply_codebook(codebook.half().float(), codes))
    return small


pruned = compressed(large, 0.8, 4)

# %% [markdown] lang="en"
# Four people report on `pruned`. The first counts non-zero weights. The second counts the bits of an idealized format, as many papers
# do: 4 bits of code and 4 bits of position for each non-zero. The third saves the network with `torch.save`, the fourth with the
# course's own packed file:

# %% [markdown] lang="zh"
# 四个人来报告 `pruned`。第一个人数非零权重。第二个人像许多论文那样按理想格式数比特：每个非零权重用 4 比特存编码，再用 4 比特存位置。第三个人用 `torch.save` 保存，第四个人用本课程的紧凑格式保存：

# %%
state = pruned.state_dict()
fp32_bytes = measure.dense_bytes(large)
pickled = io.BytesIO()
torch.save(state, pickled)
codec = {name: "range" if X.ndim == 2 else "fp16" for name, X in state.items()}
path = folder / "pruned.mof"
ratios = {
    "non-zero weights": measure.n_parameters(pruned) / measure.n_nonzero(pruned),
    "bits of an idealized format": 8 * fp32_bytes / (8 * measure.n_nonzero(pruned)),
    "torch.save": fp32_bytes / len(pickled.getvalue()),
    "packed file": fp32_bytes / storage.save_tensors(path, state, codec),
}
for convention, ratio in ratios.items():
    print(f"{ratio:5.1f} x   {convention}")
position_bits = coding.entropy_bits(torch.tensor([0.8, 0.2])) / 0.2
print(f"positions of 20 % non-zeros need {position_bits:.1f} bits each")
assert ratios["torch.save"] < 1.01 and 4.5 < ratios["non-zero weights"] < 5.1 and ratios["packed file"] > 20
assert position_bits < 4

# %% [markdown] lang="en"
# One network, and ratios from 1 to more than 20. `torch.save` does not know that zeros are special; the idealized count forgets codebooks,
# biases and names, yet also wastes bits, since 4 bits a position are more than the positions need. Only a file has a decoder. So
# the course counts `len(file)`, and only of a file from which **a fresh process** rebuilds the network. Try it:

# %% [markdown] lang="zh"
# 同一个网络，压缩比从 1 到 20 多。`torch.save` 不知道零有什么特别；理想化的数法漏掉了码本、偏置和名字，却又多算了比特，因为位置其实用不了 4 比特。只有文件才有解码器把它读回来。所以本课程一律数 `len(file)`，而且必须是一个**全新的进程**能从中重建网络的文件。试一下：

# %%
program = """
import hashlib, sys
from course_lib.storage import load_tensors
tensors = load_tensors(sys.argv[1])
print(hashlib.sha256(b"".join(X.numpy().tobytes() for X in tensors.values())).hexdigest())
"""
root = Path(course_lib.__file__).parents[1]
rebuilt = subprocess.run(
    [sys.executable, "-c", program, path], capture_output=True, text=True, cwd=root, check=True
).stdout.strip()
written = {name: X.half().float() if codec[name] == "fp16" else X for name, X in state.items()}
expected = hashlib.sha256(b"".join(X.numpy().tobytes() for X in written.values())).hexdigest()
assert rebuilt == expected
print("rebuilt bit by bit from", path.stat().st_size, "bytes")

# %% [markdown] lang="en"
# ### Where the bytes go, predicted
#
# A layer's weights are now a list of symbols: which of the 16 values (zero is one of them). Information theory gives the least
# number of bits that such a list needs if its symbols are coded one by one:
#
# $$ H(p) = -\sum_k p_k \log_2 p_k, \qquad \text{ratio} \approx \frac{32}{H(p)} $$
#
# Let us first see two codes at work on a list that fits on a line. Huffman gives whole bits, short words to frequent symbols:

# %% [markdown] lang="zh"
# ### 预测字节的去向
#
# 一层的权重现在是一串符号：取 16 个数值中的哪一个（零是其中之一）。如果逐个符号编码，至少需要多少比特？信息论给出了答案：
#
# $$ H(p) = -\sum_k p_k \log_2 p_k, \qquad \text{ratio} \approx \frac{32}{H(p)} $$
#
# 先用一行就写得下的短列表，看两种编码怎样工作。Huffman 编码的码长是整数个比特，符号越常见，码字越短：

# %%
symbols = torch.tensor([0, 0, 1, 0, 0, 2, 0, 0, 0, 3, 0, 1, 0, 0, 0, 0])
counts = coding.symbol_counts(symbols, 4)
lengths = coding.huffman_lengths(counts)
for k, (n, word, length) in enumerate(zip(counts.tolist(), coding.canonical_codes(lengths).tolist(), lengths.tolist())):
    print(f"symbol {k}: {n:2} times, word {word:0{length}b}")
spelled = -sum(n / 16 * math.log2(n / 16) for n in counts.tolist())
assert abs(coding.entropy_bits(counts) - spelled) < 1e-12
print(f"entropy {16 * spelled:.1f} bits, Huffman {coding.huffman_size_bits(counts, lengths)} bits, plain 2-bit codes 32 bits")
data = coding.huffman_encode(symbols, lengths)
assert coding.huffman_decode(data, lengths, 16).equal(symbols) and len(data) == 3

# %% [markdown] lang="en"
# Symbol 0 is so frequent that it deserves less than one bit, and Huffman cannot give it less. A range coder can: it writes the whole list
# as one large number. On the first layer of `pruned`, with 235,200 symbols, the difference is worth having. Predicted first:

# %% [markdown] lang="zh"
# 符号 0 太常见，本该连一个比特都用不到，Huffman 却给不出更短的码字。区间编码可以：它把整串符号写成一个大数。`pruned` 的第一层有 235,200 个符号，这点差别就很可观了。先预测：

# %%
W = state["0.weight"]
values, codes = W.unique(return_inverse=True)
counts = coding.symbol_counts(codes, len(values))
lengths, frequencies = coding.huffman_lengths(counts), coding.quantize_frequencies(counts)
predicted = {
    "entropy": coding.entropy_bits(counts) * W.numel() / 8,
    "Huffman": coding.huffman_size_bits(counts, lengths) / 8,
    "range coder": coding.range_size_bits(counts, frequencies) / 8,
}
streams = {"Huffman": coding.huffman_encode(codes, lengths), "range coder": coding.range_encode(codes, frequencies)}
for name, size in predicted.items():
    print(f"{name:12} predicted {size:9,.1f} bytes" + (f", measured {len(streams[name]):,}" if name in streams else ""))
assert coding.range_decode(streams["range coder"], frequencies, W.numel()).equal(codes.flatten())
assert len(streams["range coder"]) < 1.02 * predicted["entropy"] < len(streams["Huffman"])

# %% [markdown] lang="en"
# The range coder stays within 2 % of the entropy. A decoder also has to be told the frequencies and the values; they are part of
# the section, too. `gamma_encode` writes such small tables (`gamma_decode` reads them). What the whole section takes is known in
# advance, for every codec of the course:

# %% [markdown] lang="zh"
# 区间编码与熵相差不到 2 %。解码器还需要知道频率表和数值表，它们也要算进这一段的字节数；这类小表由 `gamma_encode` 写入（`gamma_decode` 读出）。课程里每一种编解码格式，整段占多少字节都能事先算出：

# %%
table = coding.gamma_encode(frequencies)
assert coding.gamma_decode(table, len(values))[0].equal(frequencies)
density = float((W != 0).double().mean())
print(f"density {density:.1%}; table of {len(values)} frequencies in {len(table)} bytes")
for codec_name in ("fp32", "int8", "int4", "csr", "bitmask", "relative8", "packed", "huffman", "range"):
    size = storage.predicted_bytes(codec_name, tuple(W.shape), density, n_bits=4, counts=counts, value_bytes=2)
    section = storage.encode_tensor(W, codec_name)
    assert storage.decode_tensor(section, codec_name, tuple(W.shape)).shape == W.shape
    print(f"{codec_name:10} predicted {size:9,}  measured {len(section):9,}  ratio {len(section) / size:.3f}")
    assert abs(len(section) / size - 1) < 0.02

# %% [markdown] lang="en"
# The relative index stores distances between non-zeros in 8 bits; where a distance is too long it inserts a filler zero, and
# `n_filler_zeros` counts them: here:

# %% [markdown] lang="zh"
# 相对索引用 8 位存相邻非零权重之间的距离；距离太长时插入一个填充零，`n_filler_zeros` 数的就是它们。这里有：

# %%
for n_bits in (4, 8):
    print(f"{n_bits}-bit distances: {storage.n_filler_zeros(W != 0, n_bits):,} fillers for {int((W != 0).sum()):,} weights")
for name, section in storage.file_sections(path).items():
    print(f"{name:10} {section.codec:6} {section.size_bytes:7,} bytes of {4 * math.prod(section.shape):9,}")
loaded = storage.load_tensors(path)
assert all(loaded[name].equal(X) for name, X in written.items())

# %% [markdown] lang="en"
# ## 3 · Accuracy: an error rate is an estimate
#
# The test images are a sample of all digits that could have been written. Had another 10,000 been drawn, the error rate $r$ would be
# another one; its standard deviation, and with it the width of a 95 % interval, follow from counting heads and tails:
#
# $$ \sigma_r = \sqrt{\frac{r\,(1-r)}{n}}, \qquad r \pm 1.96\, \sigma_r $$
#
# **Predict:** a network with 3 % errors on 10,000 images. Can you tell it from one with 3.2 %?
#
# <details><summary>Hint</summary>$\sqrt{0.03 \cdot 0.97 / 10000} = 0.0017$. Twice that on each side.</details>

# %% [markdown] lang="zh"
# ## 3 · 准确性：错误率是一个估计值
#
# 测试图像只是所有可能写出的数字中的一个样本。另抽 10,000 张，错误率 $r$ 就会不同；它的标准差以及 95 % 置信区间的宽度，像数硬币的正反面那样就能算出来：
#
# $$ \sigma_r = \sqrt{\frac{r\,(1-r)}{n}}, \qquad r \pm 1.96\, \sigma_r $$
#
# **先猜：** 某网络在 10,000 张图像上错 3 %。你能把它与错 3.2 % 的网络区分开吗？
#
# <details><summary>提示</summary>$\sqrt{0.03 \cdot 0.97 / 10000} = 0.0017$，两边各取两倍。</details>

# %% [markdown] lang="en"
# The simple formula has width 0 when no error was seen, which is absurd. Wilson's interval asks the question the other way round: which true
# accuracies $a$ would not be surprised by what we saw? Literally, over a fine grid; then the library's closed form:

# %% [markdown] lang="zh"
# 一个错都没有时，上面的简单公式给出宽度 0，这很荒唐。Wilson 区间反过来问：真实准确率 $a$ 取哪些值时，看到这样的结果并不意外？先在细网格上逐个验算，再与库里的闭式解比较：

# %%
n_correct = n_test - large_errors
grid = [i / 100_000 for i in range(1, 100_000)]
plausible = [a for a in grid if abs(n_correct / n_test - a) <= 1.96 * math.sqrt(a * (1 - a) / n_test)]
low, high = measure.accuracy_interval(n_correct, n_test)
assert abs(min(plausible) - low) < 2e-5 and abs(max(plausible) - high) < 2e-5
print(f"error rate {large_errors / n_test:.2%}, 95 % interval {1 - high:.2%} to {1 - low:.2%}")
print("no error seen among 100 images:", measure.accuracy_interval(100, 100))

# %% [markdown] lang="en"
# Is "95 %" true? Pretend that our 10,000 test images are the world, draw small test sets of 1,000 from them, and count how often the
# interval holds the world's error rate:

# %% [markdown] lang="zh"
# “95 %”是真的吗？把这 10,000 张测试图像当作整个世界，从中抽出 1,000 张的小测试集，数一数区间有多少次包含“世界”的错误率：

# %%
right = measure.predict(large, final.test_images).argmax(1) == final.test_labels
generator = torch.Generator().manual_seed(0)
n_draws, covered = 500, 0
for _ in range(n_draws):
    sample = right[torch.randint(n_test, (1000,), generator=generator)]  # with replacement: a world without end
    low, high = measure.accuracy_interval(int(sample.sum()), 1000)
    covered += low <= n_correct / n_test <= high
print(f"predicted 95 %, measured {covered / n_draws:.1%}")
assert abs(covered / n_draws - 0.95) < 0.06  # 5 standard deviations of a share of 500, and Wilson's own slack

# %%
sizes = [100, 300, 1000, 3000, 10_000, 30_000, 100_000]
figure, axis = plt.subplots()
for error, color, marker in zip((0.1, 0.03, 0.01), plots.COLORS, plots.MARKERS):
    widths = []
    for n in sizes:
        low, high = measure.accuracy_interval(round(n * (1 - error)), n)
        widths.append(100 * (high - low))
    axis.loglog(sizes, widths, color=color, marker=marker, label=f"error rate {error:.0%}")
axis.axvline(10_000, color="0.5", linestyle=":", label="MNIST's test set")
axis.set(xlabel="test images", ylabel="width of the interval (points)")
axis.legend()
plt.show()

# %% [markdown] lang="en"
# The figure: each line falls by a factor of $\sqrt{10}$ when the test set grows tenfold. At MNIST's 10,000 images and 3 % errors the
# interval is about 0.7 points wide. So an error rate without the number of images says little, and "2.9 % beats 3.0 %" says nothing.

# %% [markdown] lang="zh"
# 从图中看出：测试集每扩大十倍，区间宽度就除以 $\sqrt{10}$。MNIST 有 10,000 张测试图像，错误率 3 % 时区间宽约 0.7 个百分点。所以不附图像数的错误率说明不了多少问题，“2.9 % 胜过 3.0 %”则什么也没说明。

# %%
low, high = measure.accuracy_interval(9700, 10_000)
assert abs(100 * (high - low) - 0.7) < 0.05

# %% [markdown] lang="en"
# ## 4 · Both at once: the Pareto front
#
# Size and error pull in opposite directions, so there is no best model, only models that nobody beats on both. Model $i$ *dominates* model
# $j$ if it is no larger and no worse, and in one of the two strictly better. What nothing dominates is the front:
#
# $$ \text{front} = \{\, i : \nexists j :\; (c_j \le c_i \wedge e_j < e_i) \vee (c_j < c_i \wedge e_j \le e_i) \,\} $$
#
# We make twenty candidates in three families: smaller networks in fp32, the same in int8, and the large network pruned and shared.
# **Predict:** which family will own the front?

# %% [markdown] lang="zh"
# ## 4 · 两者兼顾：帕累托前沿
#
# 大小和错误率此消彼长，所以没有“最好”的模型，只有一批谁也无法在两方面都胜过的模型。模型 $i$ *支配*模型 $j$，是说它既不更大，也不更差，而且至少一方面严格更好。不被任何模型支配的，就组成前沿：
#
# $$ \text{front} = \{\, i : \nexists j :\; (c_j \le c_i \wedge e_j < e_i) \vee (c_j < c_i \wedge e_j \le e_i) \,\} $$
#
# 我们造出三个家族共二十个候选模型：较小的 fp32 网络、同样网络的 int8 版本，以及剪枝并共享权重的大网络。**先猜：** 前沿会属于哪个家族？


# %%
def candidate(name, family, model, weight_codec):
    """Save, load what was saved, and count the errors of that, on both sets."""
    state = model.state_dict()
    codec = {key: weight_codec if X.ndim == 2 else "fp16" for key, X in state.items()}
    size = storage.save_tensors(folder / "candidate.mof", state, codec)
    judged = copy.deepcopy(model)
    judged.load_state_dict(storage.load_tensors(folder / "candidate.mof"))
    errors = [measure.n_errors(judged, part.test_images, part.test_labels) for part in (choosing, final)]
    return Candidate(name, family, size, *errors)


# %%
candidates = []
for widths, model in dense.items():
    name = "-".join(map(str, widths))
    candidates += [candidate(f"{name} {c}", f"trained small, {c}", model, c) for c in ("fp32", "int8")]
for sparsity in SPARSITIES:
    for n_bits in BITS:
        name = f"300-100, {sparsity:.0%} zeros, {n_bits} bits"
        candidates.append(candidate(name, "large, pruned and shared", compressed(large, sparsity, n_bits), "range"))
assert len(candidates) == 20

# %% [markdown] lang="en"
# The rule as two loops over all pairs; the library's, which sorts instead, must agree. The error that is compared is the one on the
# **validation** set.

# %% [markdown] lang="zh"
# 先按定义对所有模型两两比较，两重循环；库里的写法靠排序，结果必须一致。这里比较的是**验证集**上的错误数。

# %%
points = [(c.size_bytes, c.validation_errors) for c in candidates]
literal = set()
for i, (size_i, errors_i) in enumerate(points):
    beaten = False
    for size_j, errors_j in points:
        no_worse = size_j <= size_i and errors_j <= errors_i
        beaten |= no_worse and (size_j < size_i or errors_j < errors_i)
    if not beaten:
        literal.add(i)
front = pareto_front(*zip(*points))
assert set(front) == literal
for i in front:
    print(f"{points[i][0]:9,} bytes  {points[i][1]:5} validation errors  {candidates[i].name}")

# %%
n_validation = len(choosing.test_labels)
LIMIT_BYTES, LIMIT_ERROR = 30_000, 0.06
figure = choice_figure(candidates, n_validation, LIMIT_BYTES, LIMIT_ERROR)
figure

# %% [markdown] lang="en"
# The figure shows every candidate, and the front as grey steps. The fp32 networks lie to the right: for the same error, int8 needs about
# a quarter of the bytes. The compressed large network beats small fp32 networks of the same error by far: except perhaps
# for the largest, no fp32 network is on the front. Two limits choose: the shaded region is too large, and the dotted line is the largest error allowed. The rings mark what each limit picks:

# %% [markdown] lang="zh"
# 图中画出全部候选模型，灰色阶梯就是前沿。fp32 网络都偏右：错误率相同，int8 只需大约四分之一的字节。压缩后的大网络远胜于错误率相同的 fp32 小网络：除了最大的那个可能例外，fp32 网络没有一个在前沿上。两种约束各自做选择：落在阴影区域的模型太大，点线是允许的最大错误率，圆圈标出每种约束选中的模型：

# %%
for chosen in choice_values(candidates, n_validation, LIMIT_BYTES, LIMIT_ERROR):
    print(choice_text(chosen, n_test))
    assert candidates.index(chosen) in front
int8_share = [b.size_bytes / a.size_bytes for a, b in zip(candidates[0:10:2], candidates[1:10:2])]
assert all(0.24 < share < 0.32 for share in int8_share)
assert not any(c.family.endswith("fp32") for c in (candidates[i] for i in front) if c.name != "300-100 fp32")

# %% [markdown] lang="en"
# Now you: move the limits. Where does a small change of the limit change the model? Is there a size at which the choice jumps from
# one family to another?

# %% [markdown] lang="zh"
# 现在轮到你：移动两个约束。在哪里，约束稍微一变，选中的模型就变了？有没有某个大小，使选择从一个家族跳到另一个家族？

# %%
pareto_explorer(candidates, n_validation, n_test)

# %% [markdown] lang="en"
# ## 5 · Why the test set must not choose
#
# Twenty networks of one recipe, which differ in nothing but their seed. Suppose that someone picks the best of them *on the test set*
# and reports that very number. **Predict:** is the number honest? By how much is it too good?
#
# The luck of each network on $n$ images has a standard deviation; only the images on which a pair of networks disagrees matter for it. With
# $d$ the share of such images, the luck of one of the two has variance $d/(2n)$, and the luckiest of 20 equals is 1.87 standard deviations
# ahead of the average:
#
# $$ \text{flattery} \;\le\; \mathbb{E}\max_{i \le 20} z_i \cdot \sqrt{\frac{d}{2n}}, \qquad z_i \sim \mathcal{N}(0, 1) $$

# %% [markdown] lang="zh"
# ## 5 · 为什么不能用测试集做选择
#
# 同一配方的二十个网络，只有随机种子不同。假设有人*在测试集上*挑出最好的一个，报告的也正是这个数。**先猜：** 这个数可信吗？偏乐观了多少？
#
# 每个网络在 $n$ 张图像上的运气有一个标准差；拿两个网络来比，只有它们答得不一样的图像才起作用。设这种图像的比例为 $d$，则其中一个网络运气的方差是 $d/(2n)$；二十个势均力敌的网络里最走运的那个，平均领先 1.87 个标准差：
#
# $$ \text{flattery} \;\le\; \mathbb{E}\max_{i \le 20} z_i \cdot \sqrt{\frac{d}{2n}}, \qquad z_i \sim \mathcal{N}(0, 1) $$

# %%
small_nets = [fit(32, seed=seed, n_train=N_TRAIN_SEEDS, n_epochs=1) for seed in range(N_SEEDS)]
logits = [measure.predict(model, final.test_images) for model in small_nets]
wrong = torch.stack([u.argmax(1) != final.test_labels for u in logits])  # (20, n_test)
luckiest = torch.randn(20_000, N_SEEDS, generator=generator).amax(1).mean().item()
print(f"errors of the 20 networks: {sorted(wrong.sum(1).tolist())}")
print(f"the luckiest of {N_SEEDS} Gaussians: {luckiest:.2f}")
assert abs(luckiest - 1.87) < 0.03

# %% [markdown] lang="en"
# A small test set of 1,000 images shows the effect best. Three disjoint parts of the 10,000, drawn anew 300 times: on part A the best
# network is chosen; part B is never looked at before; the remaining 8,000 images stand for the truth.

# %% [markdown] lang="zh"
# 用 1,000 张的小测试集最能看出这个效应。把 10,000 张图像随机分成互不相交的三份，重复 300 次：在 A 份上挑出最好的网络；B 份在此之前从未看过；剩下的 8,000 张代表真相。

# %%
n_small, flattery_A, flattery_B = 1000, [], []
for _ in range(300):
    order = torch.randperm(n_test, generator=generator)
    A, B, rest = order[:n_small], order[n_small : 2 * n_small], order[2 * n_small :]
    best = int(wrong[:, A].sum(1).argmin())
    truth = wrong[best, rest].double().mean().item()
    flattery_A.append(truth - wrong[best, A].double().mean().item())
    flattery_B.append(truth - wrong[best, B].double().mean().item())
d = fmean((wrong[i] != wrong[i + 1]).double().mean().item() for i in range(N_SEEDS - 1))
bound = luckiest * math.sqrt(d / 2 / n_small)
print(f"chosen and reported on the same 1,000: too good by {fmean(flattery_A):.2%} (bound {bound:.2%})")
print(f"reported on fresh images:              too good by {fmean(flattery_B):.2%}")
assert 0.2 * bound < fmean(flattery_A) < 1.1 * bound and abs(fmean(flattery_B)) < 0.6 * fmean(flattery_A)

# %%
figure, axis = plt.subplots()
axis.hist([[100 * f for f in flattery_A], [100 * f for f in flattery_B]], bins=20, label=["same images", "fresh images"])
for values, color in ((flattery_A, plots.COLORS[0]), (flattery_B, plots.COLORS[1])):
    axis.axvline(100 * fmean(values), color=color, linestyle="--")
axis.set(xlabel="true error minus reported error (points)", ylabel="of 300 draws")
axis.legend()
plt.show()

# %% [markdown] lang="en"
# The figure: reported on the images that chose, the error comes out too small, on average by as much as the dashed line says;
# reported on fresh images it is right on average, and scatters. Nobody cheated; choosing is enough. The bound is not reached because the twenty are
# not exactly equal. This is why the chapter's front was drawn with validation errors, and why `choice_text` reports the test set.

# %% [markdown] lang="zh"
# 从图中看出：在做选择的那批图像上报告，错误率偏小，平均偏小多少见虚线；在新图像上报告，平均而言是对的，只是有散布。没有人作弊，光是“挑选”就足以造成偏差。偏差没有达到上界，因为二十个网络并非完全一样好。正因如此，本章的前沿用验证集的错误数画出，而 `choice_text` 报告的是测试集。

# %% [markdown] lang="en"
# ## 6 · Stability: what else changes when nothing changes?
#
# Another seed gives another network. Its error rate differs by more than the test set's own sampling noise would explain:

# %% [markdown] lang="zh"
# ## 6 · 稳定性：什么都没变时，还有什么会变？
#
# 换一个随机种子，就是另一个网络。不同种子之间的错误率之差，超出了测试集抽样噪声所能解释的范围：

# %%
errors = wrong.sum(1).tolist()
mean_error = fmean(errors) / n_test
print(f"20 seeds: {mean_error:.2%} on average, standard deviation {stdev(errors) / n_test:.2%}")
print(f"sampling noise of one test set:      standard deviation {math.sqrt(mean_error * (1 - mean_error) / n_test):.2%}")
print(f"best and worst seed: {min(errors) / n_test:.2%} and {max(errors) / n_test:.2%}")

# %% [markdown] lang="en"
# So a number from one run may be the merit of the recipe or the luck of the seed. Compare the best and the worst of these twenty on the test set, by
# McNemar's test: the two *networks* clearly differ, although the two *recipes* are one and the same.

# %% [markdown] lang="zh"
# 所以只跑一次得到的数，可能是配方的功劳，也可能只是种子的运气。用 McNemar 检验，在测试集上比较这二十个网络中最好的和最差的：两个*网络*明显不同，而两者的*配方*完全一样。

# %%
best, worst = errors.index(min(errors)), errors.index(max(errors))
print("best against worst network:", measure.verdict_on_test_set(logits[best], logits[worst], final.test_labels))
assert measure.verdict_on_test_set(logits[best], logits[worst], final.test_labels) == "better"

# %% [markdown] lang="en"
# A claim about a *method* therefore needs several seeds and pairs of equal budget. `verdict` takes the differences $d_i$ seed by seed and
# speaks only if their whole confidence interval lies on one side of zero:
#
# $$ \bar d \pm t_{n-1} \frac{s}{\sqrt n} $$
#
# **Predict:** two groups of five from the same recipe. How often will it raise a false alarm at 95 % confidence?

# %% [markdown] lang="zh"
# 因此，关于*方法*的结论需要多个种子，以及预算相同的成对比较。`verdict` 逐个种子取差 $d_i$，只有当整个置信区间都落在零的同一侧时才下结论：
#
# $$ \bar d \pm t_{n-1} \frac{s}{\sqrt n} $$
#
# **先猜：** 从同一配方里取两组，每组五个。在 95 % 置信度下，它误报的比例有多大？

# %%
draw, n_trials = random.Random(0), 400
alarms = 0
for _ in range(n_trials):
    group = draw.sample(errors, 10)
    alarms += measure.verdict(group[:5], group[5:], higher_is_better=False) != "no difference shown"
print(f"false alarms: predicted 5 %, measured {alarms / n_trials:.1%}")
assert alarms / n_trials < 0.15  # 20 networks are few: the same ones return in many trials

# %% [markdown] lang="en"
# And a real difference: 32 hidden units against 8, five seeds each, the same five on both sides.

# %% [markdown] lang="zh"
# 再看一个真实的差别：32 个隐藏单元对 8 个，两边用同样的五个种子。

# %%
narrow = [fit(8, seed=seed, n_train=N_TRAIN_SEEDS, n_epochs=1) for seed in range(5)]
narrow_errors = [measure.n_errors(model, final.test_images, final.test_labels) for model in narrow]
print("32 units:", errors[:5], "  8 units:", narrow_errors)
print("32 units are", measure.verdict(errors[:5], narrow_errors, higher_is_better=False))
assert measure.verdict(errors[:5], narrow_errors, higher_is_better=False) == "better"

# %% [markdown] lang="en"
# ### Equal accuracy is not equality
#
# Take the two of the twenty whose numbers of errors are closest. Their accuracy is the same; are their answers? Beside them, the large
# network and its int8 version. **Predict:** which pair agrees more?

# %% [markdown] lang="zh"
# ### 准确率相同，不等于答案相同
#
# 从二十个网络中取错误数最接近的两个。它们的准确率相同，答案也相同吗？旁边再放上大网络和它的 int8 版本。**先猜：** 哪一对更一致？

# %%
ranked = sorted(range(N_SEEDS), key=errors.__getitem__)
a, b = min(itertools.pairwise(ranked), key=lambda pair: errors[pair[1]] - errors[pair[0]])
int8 = copy.deepcopy(large)
for W in prunable_weights(int8).values():
    W.data.copy_(storage.decode_tensor(storage.encode_tensor(W, "int8"), "int8", tuple(W.shape)))
large_logits, int8_logits = (measure.predict(model, final.test_images) for model in (large, int8))
agreements = {}
for name, (before, after) in {"two seeds": (logits[a], logits[b]), "fp32 and int8": (large_logits, int8_logits)}.items():
    changed = measure.flips(before, after, final.test_labels)
    agreements[name] = measure.agreement(before, after)
    print(
        f"{name:14} agree on {agreements[name]:.2%}; {changed.broken} answers broken, {changed.mended} mended, of {changed.n:,}"
    )
assert agreements["two seeds"] < 0.98 < 0.995 < agreements["fp32 and int8"]

# %% [markdown] lang="en"
# Two seeds of one accuracy give different answers to hundreds of images, while int8 changes a few. Whoever replaces a model in a product
# cares about exactly this: a user whose digit was read yesterday and is not read today does not console himself with the average.
# Accuracy alone would not have told the two pairs apart; chapter 7.1 turns this into a test.

# %% [markdown] lang="zh"
# 准确率相同的两个种子，对几百张图像的回答不同；int8 只改变了寥寥几个答案。在产品里替换模型的人，关心的正是这一点：昨天还能认出的数字，今天认不出了，用户不会因为平均值没变而感到安慰。只看准确率，分不出这两对的差别；第 7.1 章会把它做成一项检验。

# %% [markdown] lang="en"
# ## 7 · Complexity: fewer operations, less time?
#
# `pruned` has 80 % zeros. Does it run five times as fast? Compare three networks on a batch of 256 images, on one thread: the dense one, the
# pruned one with its zeros in place, and the one with 32 hidden units. The prediction counts multiply-accumulate operations that are
# really carried out: a zero in a dense matrix is multiplied like any other number.

# %% [markdown] lang="zh"
# ## 7 · 复杂度：运算少了，时间也少吗？
#
# `pruned` 有 80 % 的零。它会快五倍吗？用一个线程，以 256 张图像为一批，比较三个网络：稠密的、剪枝后零仍占着位置的，以及只有 32 个隐藏单元的。预测时只数真正执行的乘加运算：稠密矩阵里的零，与别的数一样要乘。

# %%
x = final.test_images[:256]
small = dense[(32,)]
work = {
    name: sum(measure.macs(model, x[:1]).values())
    for name, model in (("dense", large), ("pruned", pruned), ("32 units", small))
}
for name, model in (("pruned", pruned), ("32 units", small)):
    with torch.no_grad():
        speed = measure.speed_ratio(lambda: large(x), lambda model=model: model(x), n_repeats=31)
    print(f"{name:9} predicted x {work['dense'] / work[name]:.1f}, measured {speed}, batch 256")
    assert speed.high > 1.5 if name == "32 units" else speed.low < 2  # five times faster would be 5

# %% [markdown] lang="en"
# The pruned network is no faster: masked zeros are still multiplied. The small one is much faster, though by another factor than the count of
# operations says, since calls and memory cost time as well. The ratio is measured in pairs, in turn, in one run, because the machine's mood
# changes from second to second; a time alone, without batch size and threads, could not be compared with anything. Chapters
# [3.1](03_1_weight_pruning.ipynb) and [4.1](04_1_pruning_in_practice.ipynb) show which zeros do make a network faster.

# %% [markdown] lang="zh"
# 剪枝后的网络并没有变快：掩码置零的权重照样要乘。小网络快得多，但倍数与运算量之比并不一致，因为函数调用和内存也要花时间。比值是在同一次运行里成对、轮流测出来的，因为机器的状态时刻在变；光报一个时间，不说批大小和线程数，就没法和任何东西比较。第 [3.1](03_1_weight_pruning.ipynb) 章和第 [4.1](04_1_pruning_in_practice.ipynb) 章会说明哪些零真能让网络变快。

# %% [markdown] lang="en"
# ## 8 · The protocol
#
# Every claim of this course keeps seven rules; hold other people's claims against them, too.
#
# 1. Equal budgets: data, epochs, tuning effort. The baseline gets what the new method gets.
# 2. Validation chooses, the test set reports, once.
# 3. At least three seeds, paired; a verdict: better, worse, or no difference shown.
# 4. An error rate comes with the number of test samples or its interval.
# 5. Size is `len(file)` of a file that a fresh process can read; other conventions are named when quoted.
# 6. Speed is a paired ratio of one run, with batch size and threads, against the dense baseline and against what one would use instead.
# 7. What got worse or did not work is reported as well.
#
# The smallest network within our error limit, as a claim that keeps them:

# %% [markdown] lang="zh"
# ## 8 · 规程
#
# 本课程的每个结论都遵守七条规则，也请用它们去衡量别人的结论。
#
# 1. 预算相同：数据、轮数、调参的工夫。新方法有什么，基线也有什么。
# 2. 验证集做选择，测试集做报告，只报告一次。
# 3. 至少三个随机种子，成对比较；结论分三种：更好、更差、看不出差别。
# 4. 错误率要附上测试样本数或置信区间。
# 5. 大小是 `len(file)`，而且全新的进程要能读这个文件；引用别的口径时要说明是哪一种。
# 6. 速度是同一次运行中成对测得的比值，注明批大小和线程数，既与稠密基线比，也与实际会改用的方案比。
# 7. 变差了的、不起作用的，也要报告。
#
# 在我们的错误率限制之内最小的网络，写成一句遵守规则的结论：

# %%
chosen = choice_values(candidates, n_validation, LIMIT_BYTES, LIMIT_ERROR)[1]
low, high = measure.accuracy_interval(n_test - chosen.test_errors, n_test)
print(
    f"{chosen.name}: chosen among {len(candidates)} on {n_validation:,} validation images (error at most {LIMIT_ERROR:.0%}), "
    f"{fp32_bytes / chosen.size_bytes:.1f} x smaller than the fp32 weights of 300-100 (len(file) = {chosen.size_bytes:,}), "
    f"test error {chosen.test_errors / n_test:.2%} [{1 - high:.2%}, {1 - low:.2%}] on {n_test:,} images, "
    f"baseline {large_errors / n_test:.2%}; one seed, so no claim about methods."
)

# %% [markdown] lang="en"
# ## Summary
#
# - Size: only `len(file)` of a file with a decoder counts. Non-zero counts, idealized bits and `torch.save` give other ratios for the same network.
# - The entropy predicts the file: $32 / H(p)$, and a range coder gets within 2 % of it; Huffman cannot go below one bit a weight.
# - Accuracy: an error rate on $n$ images has the standard deviation $\sqrt{r(1-r)/n}$; 10,000 images tell a few tenths of a point.
# - Pareto front: what nothing dominates. A limit on bytes or on the error picks a point of it, on validation data.
# - Choosing on the test set flatters, by up to 1.87 standard deviations for the best of 20; reporting on fresh images does not.
# - Stability: seeds move the error more than sampling does, and equal accuracy hides hundreds of changed answers.
# - Complexity: operations that are still carried out still take time.

# %% [markdown] lang="zh"
# ## 小结
#
# - 大小：只认 `len(file)`，而且文件要有解码器。同一个网络，数非零权重、数理想化的比特、用 `torch.save`，得到的压缩比各不相同。
# - 熵能预测文件大小：$32 / H(p)$，区间编码与它相差不到 2 %；Huffman 每个权重至少要一个比特。
# - 准确性：$n$ 张图像上的错误率有标准差 $\sqrt{r(1-r)/n}$；10,000 张图像只能分辨零点几个百分点。
# - 帕累托前沿：不被任何模型支配的那些模型。对字节数或错误率的约束从中选出一点，用的是验证集。
# - 在测试集上做选择会让结果偏乐观，二十选一时最多偏 1.87 个标准差；在新图像上报告则不会。
# - 稳定性：随机种子带来的波动大于抽样噪声；准确率相同，背后可能有几百个答案不同。
# - 复杂度：只要运算还在做，时间就还要花。

# %% [markdown] lang="en"
# ## Functions used
#
# - `course_lib.storage.save_tensors`, `course_lib.storage.load_tensors`, `course_lib.storage.file_sections` (a `Section` for each tensor),
#   `course_lib.storage.predicted_bytes`, `course_lib.storage.encode_tensor`, `course_lib.storage.decode_tensor`, `course_lib.storage.n_filler_zeros`
# - `course_lib.coding.entropy_bits`, `course_lib.coding.symbol_counts`, `course_lib.coding.huffman_lengths`,
#   `course_lib.coding.canonical_codes`, `course_lib.coding.huffman_size_bits`, `course_lib.coding.huffman_encode`,
#   `course_lib.coding.huffman_decode`, `course_lib.coding.quantize_frequencies`, `course_lib.coding.range_size_bits`,
#   `course_lib.coding.range_encode`, `course_lib.coding.range_decode`, `course_lib.coding.gamma_encode`, `course_lib.coding.gamma_decode`
# - `course_lib.measure.accuracy_interval`, `course_lib.measure.n_errors`, `course_lib.measure.predict`, `course_lib.measure.verdict`,
#   `course_lib.measure.verdict_on_test_set`, `course_lib.measure.agreement`, `course_lib.measure.flips`, `course_lib.measure.macs`,
#   `course_lib.measure.speed_ratio`, `course_lib.measure.dense_bytes`, `course_lib.measure.n_parameters`, `course_lib.measure.n_nonzero`
# - `course_lib.pruning.global_masks`, `course_lib.pruning.magnitude_score`, `course_lib.pruning.prunable_weights`,
#   `course_lib.quantization.kmeans_codebook`, `course_lib.quantization.apply_codebook`
# - `course_lib.widgets.concepts.pareto_front`, `course_lib.widgets.concepts.choice_values`, `course_lib.widgets.concepts.choice_text`,
#   `course_lib.widgets.concepts.choice_figure`, `course_lib.widgets.concepts.pareto_explorer`, `course_lib.widgets.concepts.Candidate`
# - `course_lib.data.mnist`, `course_lib.models.mlp`, `course_lib.optimizers.Adam`, `course_lib.training.train`,
#   `course_lib.training.n_updates`, `course_lib.training.warmup_cosine`

# %% [markdown] lang="zh"
# ## 用到的函数
#
# - `course_lib.storage.save_tensors`、`course_lib.storage.load_tensors`、`course_lib.storage.file_sections`（每个张量一个 `Section`）、
#   `course_lib.storage.predicted_bytes`、`course_lib.storage.encode_tensor`、`course_lib.storage.decode_tensor`、`course_lib.storage.n_filler_zeros`
# - `course_lib.coding.entropy_bits`、`course_lib.coding.symbol_counts`、`course_lib.coding.huffman_lengths`、
#   `course_lib.coding.canonical_codes`、`course_lib.coding.huffman_size_bits`、`course_lib.coding.huffman_encode`、
#   `course_lib.coding.huffman_decode`、`course_lib.coding.quantize_frequencies`、`course_lib.coding.range_size_bits`、
#   `course_lib.coding.range_encode`、`course_lib.coding.range_decode`、`course_lib.coding.gamma_encode`、`course_lib.coding.gamma_decode`
# - `course_lib.measure.accuracy_interval`、`course_lib.measure.n_errors`、`course_lib.measure.predict`、`course_lib.measure.verdict`、
#   `course_lib.measure.verdict_on_test_set`、`course_lib.measure.agreement`、`course_lib.measure.flips`、`course_lib.measure.macs`、
#   `course_lib.measure.speed_ratio`、`course_lib.measure.dense_bytes`、`course_lib.measure.n_parameters`、`course_lib.measure.n_nonzero`
# - `course_lib.pruning.global_masks`、`course_lib.pruning.magnitude_score`、`course_lib.pruning.prunable_weights`、
#   `course_lib.quantization.kmeans_codebook`、`course_lib.quantization.apply_codebook`
# - `course_lib.widgets.concepts.pareto_front`、`course_lib.widgets.concepts.choice_values`、`course_lib.widgets.concepts.choice_text`、
#   `course_lib.widgets.concepts.choice_figure`、`course_lib.widgets.concepts.pareto_explorer`、`course_lib.widgets.concepts.Candidate`
# - `course_lib.data.mnist`、`course_lib.models.mlp`、`course_lib.optimizers.Adam`、`course_lib.training.train`、
#   `course_lib.training.n_updates`、`course_lib.training.warmup_cosine`

# %% [markdown] lang="en"
# ## Exercises and what comes next
#
# This chapter has no graded notebook of its own; what it needs from you is practised in
# [the exercise of 3.2](../../exercises/en/03_2_quantization.ipynb), where you pack codes and write a test. Three experiments right here:
# (1) set `N_SEEDS` to 5 and predict both the luckiest Gaussian and the flattery before you run section 5; (2) add a family to section 4, the
# small networks pruned to 50 % and stored with the codec `range`: does it enter the front? (3) save `pruned` with the codec `han8`,
# Deep Compression's own format, and find out from the density when it beats `range`.
#
# Next: [2.2 · Training](02_2_training.ipynb).

# %% [markdown] lang="zh"
# ## 练习与下一步
#
# 本章没有单独的计分练习，所需的本领可在[第 3.2 章的练习](../../exercises/zh/03_2_quantization.ipynb)里操练，那里要打包编码，还要自己写测试。这里就能做三个实验：（1）把 `N_SEEDS` 设为 5，运行第 5 节之前，先预测最走运的高斯随机数是多少，结果会偏乐观多少；（2）给第 4 节添一个家族，把小网络剪掉 50 %，用 `range` 格式保存：它能进入前沿吗？（3）用 `han8` 格式（Deep Compression 自己的格式）保存 `pruned`，根据密度弄清它何时胜过 `range`。
#
# 下一章：[2.2 · 训练](02_2_training.ipynb)。

# %% [markdown] lang="en"
# ## Sources
#
# - C. E. Shannon, *A mathematical theory of communication*, Bell System Technical Journal 1948 (entropy).
# - D. A. Huffman, *A method for the construction of minimum-redundancy codes*, Proceedings of the IRE 1952.
# - J. Duda, *Asymmetric numeral systems*, arXiv 1311.2540, 2013 (the range coder).
# - S. Han, H. Mao, W. J. Dally, *Deep Compression*, ICLR 2016 (relative index, shared weights, Huffman).
# - E. B. Wilson, *Probable inference, the law of succession, and statistical inference*, JASA 1927.
# - T. G. Dietterich, *Approximate statistical tests for comparing supervised classification learning algorithms*, Neural Computation 1998.
# - X. Bouthillier et al., *Accounting for variance in machine learning benchmarks*, MLSys 2021.
# - B. Recht et al., *Do ImageNet classifiers generalize to ImageNet?*, ICML 2019 (test sets used for years).
# - D. Blalock et al., *What is the state of neural network pruning?*, MLSys 2020 (why ratios cannot be compared).
# - S. Hooker et al., *What do compressed deep neural networks forget?*, 2019 (changed answers).

# %% [markdown] lang="zh"
# ## 参考文献
#
# - C. E. Shannon, *A mathematical theory of communication*，Bell System Technical Journal 1948（熵）。
# - D. A. Huffman, *A method for the construction of minimum-redundancy codes*，Proceedings of the IRE 1952。
# - J. Duda, *Asymmetric numeral systems*，arXiv 1311.2540，2013（区间编码）。
# - S. Han, H. Mao, W. J. Dally, *Deep Compression*，ICLR 2016（相对索引、权重共享、Huffman）。
# - E. B. Wilson, *Probable inference, the law of succession, and statistical inference*，JASA 1927。
# - T. G. Dietterich, *Approximate statistical tests for comparing supervised classification learning algorithms*，Neural Computation 1998。
# - X. Bouthillier et al., *Accounting for variance in machine learning benchmarks*，MLSys 2021。
# - B. Recht et al., *Do ImageNet classifiers generalize to ImageNet?*，ICML 2019（多年反复使用的测试集）。
# - D. Blalock et al., *What is the state of neural network pruning?*，MLSys 2020（为什么压缩比不能直接比较）。
# - S. Hooker et al., *What do compressed deep neural networks forget?*，2019（改变了的答案）。
