# %% [markdown] lang="en"
# # 4.2 · Quantization in practice
#
# Chapter 3.2 rounded weights. A network that runs in integers needs more: normalizations folded away, ranges of activations,
# biases in the right unit, multiplications without a floating point. We begin with the document's listing, run it, mend it
# fault by fault, and end with a network in which no real number is multiplied, equal to its simulation to the last integer.

# %% [markdown] lang="zh"
# # 4.2 · 量化实践
#
# 第 3.2 章对权重取整。要让网络真正用整数运行，还差好几步：把归一化折叠掉，找出激活值的范围，给偏置选对单位，做不带浮点的乘法。
# 我们从原文的代码开始：运行它，一处一处地修好它；最后得到一个完全不做实数乘法的网络，它与仿真的结果连最后一个整数都相同。

# %% [markdown] lang="en"
# **After this chapter you can**
#
# - name the faults of the document's listing, each by a measurement, and write the mended version;
# - fold a batch normalization exactly, and calibrate activations;
# - derive integer-only inference, and prove it equal to its simulation in real numbers;
# - explain why depthwise networks fall first, and repair them without training;
# - compare rounding, equalization, bias correction, learned rounding and training at equal budgets;
# - distribute bits over layers under a byte budget, and say when int8 is faster.
#
# Time: 90 minutes of reading and trying, about a minute of computing. Memory: 1 GB. Needs: chapter 3.2 (scale and zero point,
# observers, QAT, LSQ), chapter 2.1 (`verdict`), and the trained LeNet-300-100 (trained once, in a minute, where it is not
# there yet). Three small depthwise networks are trained here.

# %% [markdown] lang="zh"
# **学完本章，你能够**
#
# - 用测量逐一指出原文代码的错误，并写出修好的版本；
# - 精确地折叠批归一化，并校准激活值；
# - 推导纯整数推理，并证明它与实数仿真相等；
# - 说明深度可分离网络为什么最先垮掉，以及怎样不经训练就修好它；
# - 在相同预算下比较就近取整、均衡、偏差修正、学习取整和训练；
# - 在字节预算之内给各层分配比特，并说清 int8 什么时候更快。
#
# 时间：阅读和动手约 90 分钟，计算约一分钟。内存：1 GB。需要：第 3.2 章（缩放因子与零点、观察器、QAT、LSQ），第 2.1 章（`verdict`），
# 以及训练好的 LeNet-300-100（若还没有，会自动训练一次，约一分钟）。本章还会当场训练三个小的深度可分离网络。

# %%
import copy
import inspect
import math
import warnings

import matplotlib.pyplot as plt
import torch
from torch import nn

from course_lib import calibration, measure, plots, quantization
from course_lib.data import mnist
from course_lib.models import depthwise_cnn
from course_lib.optimizers import Adam
from course_lib.pretrained import trained
from course_lib.training import cross_entropy, n_updates, train, warmup_cosine
from course_lib.widgets.practice_quantization import draw_rows, equalization_explorer, equalization_values

plots.use_course_style()
torch.set_num_threads(1)

# %%
N_TRAIN, BATCH_SIZE, LR = 16_000, 64, 1e-2  # one epoch for each depthwise network
N_TUNE, TUNE_LR = 4_096, 1e-3  # 32 updates of 128, the budget of every method that trains
N_CALIBRATION = 500  # training images for ranges, means and sensitivities
SEEDS = (0, 1, 2)
FEW_BITS = 4  # where one scale a tensor fails

# %% [markdown] lang="en"
# ## 1 · The document's listing, as written
#
# Listing 4.2 walks over the layers and replaces kernel and bias by the result of `tf.quantization.quantize_weights`. The same
# lines in torch, where a `kernel` is called `weight` and the layers are `children()`; nothing was mended:

# %% [markdown] lang="zh"
# ## 1 · 照着运行原文的代码
#
# 代码 4.2 逐层遍历，用 `tf.quantization.quantize_weights` 的结果替换权重和偏置。下面是同样几行的 torch 写法：`kernel` 在 torch 里叫 `weight`，
# 各层由 `children()` 给出；错误一处也没有改：


# %%
def quantization_as_printed(model, num_bits):
    for layer in model.children():
        if hasattr(layer, "weight"):
            layer.weight = torch.quantization.quantize_weights(layer.weight, num_bits)
            layer.bias = torch.quantization.quantize_weights(layer.bias, num_bits)


dense = trained("lenet_300_100")
digits = mnist(progress=False)
X, labels = digits.test_images, digits.test_labels
dense_errors = measure.n_errors(dense, X, labels)
print(f"float network: {dense_errors} of {len(labels):,} wrong")

# %% [markdown] lang="en"
# **Predict before you run on:** what will it do with `num_bits = 8`: keep the accuracy, lose it, or something else? How many
# separate faults do you count?
#
# <details><summary>Hint</summary>Ask of each line: does this name exist? What type comes back? Where does the scale go?</details>

# %% [markdown] lang="zh"
# **先猜再运行：** `num_bits = 8` 时它会怎样：准确率保住、丢掉，还是别的结果？你数得出几处独立的错误？
#
# <details><summary>提示</summary>对每一行都问一问：这个名字存在吗？返回的是什么类型？缩放因子去哪里了？</details>


# %%
def refusal(change):
    """What happens to a copy of the network under `change`: the first line of the error, or the number of test errors."""
    model = copy.deepcopy(dense)
    try:
        change(model)
        return measure.n_errors(model, X, labels)
    except (AttributeError, TypeError, RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"


print(first_fault := refusal(lambda model: quantization_as_printed(model, 8)))
assert first_fault.startswith("AttributeError") and "quantize_weights" in first_fault

# %% [markdown] lang="en"
# **Fault 1: the function does not exist**, here as little as in the library that the document names. So we must supply it, and the
# document's own section 3.2 is no help: its `round` has no scale and erases the network. We take the codes of chapter 3.2.
# **Predict:** will the listing run with them?

# %% [markdown] lang="zh"
# **错误一：这个函数不存在**，这里没有，原文所用的库里也没有。所以得由我们来提供；而原文 3.2 节帮不上忙：它的 `round` 没有缩放因子，会把网络抹平。
# 我们用第 3.2 章的编码来填。**先猜：** 这样一来，代码能运行吗？


# %%
def codes_of(W, num_bits):
    """Integer codes of a tensor, one scale for all; the scale is not returned, as in the listing."""
    s, z = quantization.weight_qparams(W.detach(), num_bits)
    return quantization.quantize(W.detach(), s, z, num_bits)


def listing_with(quantizer):
    """The listing's loop with another function in the place of the missing one."""

    def change(model):
        for layer in model.children():
            if hasattr(layer, "weight"):
                layer.weight, layer.bias = quantizer(layer.weight, 8), quantizer(layer.bias, 8)

    return change


attempts = {
    "int8 tensors": codes_of,
    "as parameters": lambda W, b: nn.Parameter(codes_of(W, b)),
    "without gradient": lambda W, b: nn.Parameter(codes_of(W, b), requires_grad=False),
    "as float numbers": lambda W, b: nn.Parameter(codes_of(W, b).float()),
}
outcome = {name: refusal(listing_with(quantizer)) for name, quantizer in attempts.items()}
for name, what in outcome.items():
    print(f"{name:17} {what}")
assert [type(what) for what in outcome.values()] == [str, str, str, int]
assert outcome["as float numbers"] < dense_errors + 100

# %% [markdown] lang="en"
# **Fault 2: integers are put where the layer computes in floating point.** It refuses them three times. Written as float numbers
# they run at last, and the number of errors is nearly that of the float network. Is the listing mended?
#
# **Predict:** the weights are now whole numbers up to 127 in place of 0.1. What are the logits, and the loss?

# %% [markdown] lang="zh"
# **错误二：层里做的是浮点运算，却塞进了整数。** 它拒绝了三次。把编码写成浮点数，总算能运行了，而且错误数与原网络相差无几。这就修好了吗？
#
# **先猜：** 权重现在是大到 127 的整数，而不是 0.1 左右的数。logits 和损失会变成多少？

# %%
unscaled = copy.deepcopy(dense)
listing_with(attempts["as float numbers"])(unscaled)
loss_of = {name: float(cross_entropy(measure.predict(m, X), labels)) for name, m in (("float", dense), ("codes", unscaled))}
growth = float(measure.predict(unscaled, X).abs().mean() / measure.predict(dense, X).abs().mean())
scales = [float(quantization.weight_qparams(W.detach(), 8)[0]) for name, W in dense.named_parameters() if "weight" in name]
print(f"loss {loss_of['float']:.3f} -> {loss_of['codes']:.3g} nats; logits grew {growth:.3g} times")
print(f"predicted, 1 / (s1 s2 s3): {1 / math.prod(scales):.3g}")
assert loss_of["codes"] > 1000 and 0.5 < growth * math.prod(scales) < 2

# %% [markdown] lang="en"
# **Fault 3: the scale is thrown away.** A network of ReLUs answers the same digit when all its weights are multiplied by a constant,
# so the accuracy hides the fault; the probabilities are nonsense. A measure that cannot see a fault is no test of it.
#
# **Fault 4: the bias gets a scale of its own.** $Wx$ is counted in steps of $s_x s_w$; a bias counted in others cannot be added. The
# largest weights and biases of this network happen to be small, so little is lost here; section 5 gives the bias its proper unit.
#
# **Fault 5: which layers?** `hasattr(layer, "weight")` also catches normalizations, and `children()` sees only the top floor:

# %% [markdown] lang="zh"
# **错误三：缩放因子被丢掉了。** 对只用 ReLU 的网络，所有权重同乘一个常数，答出的数字不变，所以准确率掩盖了这个错误；而概率全是胡说。
# 看不见错误的指标，不能用来检验它。
#
# **错误四：偏置用了自己的缩放因子。** $Wx$ 以 $s_x s_w$ 为单位计数；单位不同的偏置没法相加。这个网络的偏置恰好很小，损失不大；
# 第 5 节会给偏置合适的单位。
#
# **错误五：改了哪些层？** `hasattr(layer, "weight")` 会连归一化层一起抓来，而 `children()` 只看得到最上面一层：

# %%
nested, normalized = nn.Sequential(copy.deepcopy(dense)), depthwise_cnn()
touched = {
    "nested": [type(layer).__name__ for layer in nested.children() if hasattr(layer, "weight")],
    "normalized": [type(layer).__name__ for layer in normalized.children() if hasattr(layer, "weight")],
}
without_bias = sum(layer.bias is None for layer in normalized.children() if hasattr(layer, "weight"))
print("in a nested network it touches", len(touched["nested"]), "layers")
print("in a normalized one:", {kind: touched["normalized"].count(kind) for kind in set(touched["normalized"])})
print("layers without a bias, where it would stop:", without_bias)
assert not touched["nested"] and "BatchNorm2d" in touched["normalized"] and without_bias == 7

# %% [markdown] lang="en"
# **Fault 6: nothing became smaller or faster.** Codes in float tensors take four bytes each, and the products are those of floating
# point. Bytes need packing (chapter 3.2, section 11), speed needs integer arithmetic (sections 5 and 10).
#
# The mended listing keeps the scale (in the values), touches linear layers and convolutions however deep they lie, and nothing else:

# %% [markdown] lang="zh"
# **错误六：什么也没有变小、变快。** 存在浮点张量里的编码，每个仍占四个字节，做的仍是浮点乘法。省字节要靠打包（第 3.2 章第 11 节），
# 提速要靠整数运算（本章第 5 节和第 10 节）。
#
# 修好的版本把缩放因子保留在数值里，不管藏得多深，只改线性层和卷积层，别的一概不动：

# %%
print(inspect.getsource(quantization.quantize_layers).split('"""')[2])
mended = quantization.quantize_layers(dense, 8, granularity="tensor")
by_hand = copy.deepcopy(dense)
with torch.no_grad():
    for layer in by_hand.children():
        if isinstance(layer, nn.Linear):
            s = layer.weight.abs().max() / 127
            layer.weight.copy_(s * (layer.weight / s).round())
assert all(a.equal(b) for a, b in zip(mended.parameters(), by_hand.parameters()))
mended_loss = float(cross_entropy(measure.predict(mended, X), labels))
said = measure.verdict_on_test_set(measure.predict(mended, X), measure.predict(dense, X), labels)
print(f"{measure.n_errors(mended, X, labels)} wrong (float {dense_errors}): {said}; loss {mended_loss:.3f}")
assert said == "no difference shown" and abs(mended_loss - loss_of["float"]) < 0.01

# %% [markdown] lang="en"
# ## 2 · A network that is harder to quantize
#
# LeNet-300-100 forgives everything at 8 bits. Phones run MobileNets: each *depthwise* filter sees a single channel, 9 weights,
# and a batch normalization follows every convolution. Here is one for digits, three times with different seeds, since every
# claim below about training will rest on three networks. (One epoch on 16,000 images: their errors are many, and that is
# no matter; we compare them with themselves.)

# %% [markdown] lang="zh"
# ## 2 · 一个更难量化的网络
#
# LeNet-300-100 在 8 比特时怎么做都行。手机上跑的是 MobileNet 这样的网络：每个*深度*（depthwise）滤波器只看一个通道，只有 9 个权重，而且每个卷积后面都跟着批归一化。
# 下面是一个识别数字的小版本，用三个种子各训练一个，因为后面凡是涉及训练的结论，都要以三个网络为依据。
# （只在 16,000 张图像上训练一轮，错误不少，但不要紧：我们只拿它们与自己比。）

# %%
N_STEPS = n_updates(N_TRAIN, 1, BATCH_SIZE)
networks = []
for seed in SEEDS:
    model = depthwise_cnn(seed=seed).to(memory_format=torch.channels_last)  # the layout in which these layers run fastest
    train(
        model,
        digits.train_images[:N_TRAIN],
        digits.train_labels[:N_TRAIN],
        optimizer=Adam(list(model.parameters()), lr=LR),
        batch_size=BATCH_SIZE,
        schedule=lambda step: warmup_cosine(step, N_STEPS, LR, N_STEPS // 20),
        seed=seed,
        description=f"depthwise network {seed}",
    )
    networks.append(model.eval())
first = networks[0]
first_errors = measure.n_errors(first, X, labels)
macs = measure.macs(first, X[:1])
print(f"{measure.n_parameters(first):,} parameters, {sum(macs.values()):,} MACs, {first_errors} of {len(labels):,} wrong")
assert measure.n_parameters(first) == 4138 and first_errors < 1_200

# %% [markdown] lang="en"
# ## 3 · Fold the normalizations
#
# In eval mode a batch normalization multiplies each channel by a constant and adds another; so does the layer before it. Put the two
# into one. With $u = Wx + b$:
#
# $$ y_i = \gamma_i \frac{u_i - \mu_i}{\sqrt{\sigma_i^2 + \epsilon}} + \beta_i
#    = \underbrace{a_i W_i}_{W'_i} x + \underbrace{\beta_i + a_i (b_i - \mu_i)}_{b'_i}, \qquad a_i = \frac{\gamma_i}{\sqrt{\sigma_i^2 + \epsilon}} $$
#
# **Predict:** how large is the difference of the outputs, before and after: zero, a rounding of float32, or a percent?

# %% [markdown] lang="zh"
# ## 3 · 折叠归一化
#
# 在推理模式下，批归一化就是给每个通道乘一个常数、再加一个常数；它前面的层也是如此。两者可以合成一层。设 $u = Wx + b$：
#
# $$ y_i = \gamma_i \frac{u_i - \mu_i}{\sqrt{\sigma_i^2 + \epsilon}} + \beta_i
#    = \underbrace{a_i W_i}_{W'_i} x + \underbrace{\beta_i + a_i (b_i - \mu_i)}_{b'_i}, \qquad a_i = \frac{\gamma_i}{\sqrt{\sigma_i^2 + \epsilon}} $$
#
# **先猜：** 折叠前后，输出相差多少：完全为零、float32 的一次舍入，还是百分之一？

# %%
conv, norm = first[1], first[2]
W_folded = torch.empty_like(conv.weight)
for i in range(16):  # channel by channel, as the formula says
    a = norm.weight[i] / (norm.running_var[i] + norm.eps).sqrt()
    W_folded[i] = (a * conv.weight[i]).detach()

folded = [quantization.fold_batch_norms(model) for model in networks]
assert folded[0][1].weight.allclose(W_folded, rtol=1e-6)
print(inspect.getsource(quantization.fold_batch_norm).split('"""')[2])

# %%
some = X[:500]
for dtype in (torch.float32, torch.float64):
    model, one_less = (copy.deepcopy(m).to(dtype) for m in (first, folded[0]))
    exact = measure.predict(model, some.to(dtype))
    difference = float((measure.predict(one_less, some.to(dtype)) - exact).abs().max() / exact.abs().max())
    print(f"{dtype}: largest difference {difference:.1e} of the largest logit; {len(model)} -> {len(one_less)} layers")
    assert difference < 1e-5
assert measure.predict(folded[0], X).argmax(1).ne(measure.predict(first, X).argmax(1)).sum() <= 3

# %% [markdown] lang="en"
# A rounding of float32, no more. (In double precision the rest is that of the folded weights themselves, which are stored in float32.)
# Folding comes *before* quantization: the integers must hold the numbers that are multiplied, and these are the $W'$. That has a
# consequence: $a_i$ differs from channel to channel, so the rows of $W'$ differ in size. Section 6 comes back to it.

# %% [markdown] lang="zh"
# 只是 float32 的舍入，再没有别的。（双精度下剩下的差，来自折叠后的权重本身，它们是按 float32 存的。）
# 折叠必须在量化*之前*：整数要表示的是真正相乘的那些数，也就是 $W'$。这带来一个后果：各通道的 $a_i$ 不同，$W'$ 各行的大小也就不同。第 6 节再回到这一点。

# %% [markdown] lang="en"
# ## 4 · Calibrate the activations
#
# Hooks watch what enters each layer while 500 *training* images pass. A loop of our own on one layer first; the library's answer must be
# the same.

# %% [markdown] lang="zh"
# ## 4 · 校准激活值
#
# 让 500 张*训练*图像通过网络，用钩子观察进入每一层的数值。先自己用循环对一层做一遍；库给出的答案必须相同。

# %%
network = folded[0]
images = digits.train_images[-N_CALIBRATION:]  # not among those it was trained on
low, high = math.inf, -math.inf
with torch.no_grad():
    for x in images.split(250):
        x = network[:3](x)  # what enters layer "3", the first depthwise convolution
        low, high = min(low, float(x.min())), max(high, float(x.max()))

observers = calibration.observe_inputs(network, images)
assert math.isclose(observers["3"].high, high, rel_tol=1e-5) and observers["3"].low == low == 0
for name, observer in observers.items():
    print(f"layer {name:>2}: inputs from {observer.low:.2f} to {observer.high:.2f}")

# %% [markdown] lang="en"
# **Predict:** quantize the inputs of all layers (weights in float) to 8 and to 4 bits, with the full range and with the range of
# least squared error. Where does the choice matter?

# %% [markdown] lang="zh"
# **先猜：** 把所有层的输入（权重仍为浮点）量化到 8 比特和 4 比特，分别用完整的范围和平方误差最小的范围。在哪里这个选择才要紧？

# %%
some_images, some_labels = X[::5], labels[::5]  # 2,000 of the test images
float_errors = measure.n_errors(network, some_images, some_labels)
calibrated = {}
for bits in (8, 4):
    for name, observer in (("min-max", quantization.MinMaxObserver), ("least squares", quantization.MSEObserver)):
        model = copy.deepcopy(network)
        qparams = calibration.input_qparams(network, images, bits, observer)
        quantization.attach_input_quant(model, qparams, bits)
        calibrated[bits, name] = measure.n_errors(model, some_images, some_labels)
        print(f"{bits} bits, {name:13}: {calibrated[bits, name]} of 2,000 wrong (float {float_errors})")
assert all(abs(calibrated[8, name] - float_errors) < 0.2 * float_errors for name in ("min-max", "least squares"))
assert calibrated[4, "least squares"] < calibrated[4, "min-max"]

# %% [markdown] lang="en"
# At 8 bits, min-max is good enough and we keep it. At 4 bits clipping pays.

# %% [markdown] lang="zh"
# 8 比特时最小最大值就够了，下面都用它。4 比特时，截断才值得。

# %% [markdown] lang="en"
# ## 5 · Integers only
#
# Put $x = s_x (q_x - z_x)$ and $w = s_w q_w$ into a layer, and take the scales out of the sum:
#
# $$ y_i = s_x s_{w,i} \Bigl( \sum_j q_{w,ij} (q_{x,j} - z_x) + q_{b,i} \Bigr), \qquad q_{b,i} = \mathrm{round}\Bigl( \frac{b_i}{s_x s_{w,i}} \Bigr) $$
#
# The sum holds integers only. The bias joins it in *its* unit, $s_x s_w$: too fine for 8 bits, no cost in 32. The codes of the next
# layer are
#
# $$ q_y = \mathrm{round}(M_i\, \mathrm{acc}_i) + z_y, \qquad M_i = \frac{s_x s_{w,i}}{s_y} \approx M_0\, 2^{-n}, \qquad 2^{30} \le M_0 < 2^{31} $$
#
# $M$ is known beforehand, so it becomes an int32 $M_0$ and a shift by $n$ bits that rounds. By hand:

# %% [markdown] lang="zh"
# ## 5 · 只用整数
#
# 把 $x = s_x (q_x - z_x)$ 和 $w = s_w q_w$ 代入一层，并把缩放因子提到求和号外：
#
# $$ y_i = s_x s_{w,i} \Bigl( \sum_j q_{w,ij} (q_{x,j} - z_x) + q_{b,i} \Bigr), \qquad q_{b,i} = \mathrm{round}\Bigl( \frac{b_i}{s_x s_{w,i}} \Bigr) $$
#
# 和式里只剩整数。偏置用的是*和式的*单位 $s_x s_w$：8 比特装不下这么细的单位，32 比特则绰绰有余。下一层的编码是
#
# $$ q_y = \mathrm{round}(M_i\, \mathrm{acc}_i) + z_y, \qquad M_i = \frac{s_x s_{w,i}}{s_y} \approx M_0\, 2^{-n}, \qquad 2^{30} \le M_0 < 2^{31} $$
#
# $M$ 事先就知道，所以可以写成一个 int32 的 $M_0$，再加一次带舍入的 $n$ 位右移。手算一遍：

# %%
M = 0.0072  # a typical multiplier
M0, n = (int(v) for v in quantization.fixed_point_multiplier(M))
print(f"M = {M}: M0 = {M0}, n = {n}; error {abs(M0 * 2.0**-n - M) / M:.1e} of M, at most 2^-31 = {2**-31:.1e}")
for acc in (5_000, -5_000, 12_345):
    by_hand = (acc * M0 + (1 << (n - 1))) >> n  # plain integers: multiply, add a half, shift
    ours = int(quantization.rounding_right_shift(torch.tensor(acc * M0), n))
    print(f"acc = {acc:6}: {by_hand} (M acc = {M * acc:.3f})")
    assert by_hand == ours == round(M * acc)
assert abs(M0 * 2.0**-n - M) <= M * 2**-31 and 2**30 <= M0 < 2**31

# %% [markdown] lang="en"
# Now one real layer, the first of the network: int8 codes in, int32 sums, int8 codes out. **Predict:** how often will the integers differ from
# the same layer computed in real numbers and then rounded?

# %% [markdown] lang="zh"
# 再来看真实的一层，网络的第一层：输入 int8 编码，求 int32 的和，输出 int8 编码。**先猜：** 与用实数计算、最后再取整的同一层相比，整数结果有多少处不同？

# %%
qparams = calibration.input_qparams(network, images)
integers = quantization.IntegerNetwork(network, qparams, images[:1], granularity="row")
layer = integers.layers[0]
x = X[:200].reshape(-1, 1, 28, 28)
q_x = quantization.quantize(x.double(), layer.s_x, layer.z_x, signed=False)
acc = quantization.integer_conv2d(q_x, layer.q_w, layer.z_x, layer.q_bias, **layer.settings).clamp(min=0)  # with ReLU
q_y = quantization.requantize(acc, layer.M0[:, None, None], layer.n[:, None, None], integers.layers[1].z_x, signed=False)

x_hat, W_hat = layer.s_x * (q_x.double() - layer.z_x), layer.s_w[:, None, None, None] * layer.q_w.double()
y = nn.functional.conv2d(x_hat, W_hat, layer.s_x * layer.s_w * layer.q_bias, **layer.settings).relu()
q_real = quantization.quantize(y, integers.layers[1].s_x, integers.layers[1].z_x, signed=False)
print(f"{int((q_y != q_real).sum())} of {q_y.numel():,} codes differ; acc is {acc.dtype}, up to {int(acc.max()):,}")
assert q_y.equal(q_real)

# %% [markdown] lang="en"
# None. Then the whole network: ReLU is a maximum on the accumulators, the mean over the map is a sum whose division goes into $M$, and only
# the image at the door is a real number. `codes` computes in integers, `simulate` in double precision:

# %% [markdown] lang="zh"
# 一处也没有。接着是整个网络：ReLU 就是对累加值取最大值，对特征图求平均就是求和，除法并入 $M$；只有入口处的图像是实数。
# `codes` 用整数计算，`simulate` 用双精度计算：

# %%
in_integers, logits = integers.codes(X[:500])
in_reals, real_logits = integers.simulate(X[:500])
for (name, _), a, b in zip(qparams.items(), in_integers, in_reals):
    print(
        f"entering layer {name:>2}: {a.numel():9,} codes, {int((a != b).sum())} different, {a.unique().numel()} values in use"
    )
    assert a.equal(b)
assert torch.equal(logits.argmax(1), real_logits.argmax(1))

# %% [markdown] lang="en"
# Equal to the last integer, layer after layer. That is what makes the simulation useful: whoever trains or debugs in floating point sees
# exactly what the integer machine will compute. Against the *float* network there is a difference, but few answers move:

# %% [markdown] lang="zh"
# 一层接一层，直到最后一个整数都相等。仿真之所以有用，就在于此：用浮点数训练或调试的人，看到的正是整数机器将要算出的结果。
# 与*浮点*网络相比则有差别，不过很少有答案改变：

# %%
int8_logits, float_logits = (measure.predict(m, X[:1_000]) for m in (integers, network))
said = measure.verdict_on_test_set(int8_logits, float_logits, labels[:1_000])
changed = measure.flips(float_logits, int8_logits, labels[:1_000])
print(f"int8 against float on 1,000 test images: {changed.broken} answers broken, {changed.mended} mended: {said}")
assert changed.broken + changed.mended < 30  # few answers move at all

layer = integers.layers[0]
unit = layer.s_x * layer.s_w.max()
own = quantization.weight_qparams(network[1].bias.detach(), 8)[0]
print(
    f"bias of layer 1: step {unit:.1e} in int32, {float(own):.1e} in int8 with a scale of its own: {own / unit:.0f} times coarser"
)
assert own > 10 * unit

# %% [markdown] lang="en"
# ## 6 · Why depthwise networks fall
#
# Because $\mathrm{relu}(s u) = s\, \mathrm{relu}(u)$ for $s > 0$, channel $i$ may be made smaller in one layer and larger in the next:
#
# $$ W^{(1)}_i \leftarrow W^{(1)}_i / s_i, \quad b^{(1)}_i \leftarrow b^{(1)}_i / s_i, \quad W^{(2)}_{:,i} \leftarrow s_i W^{(2)}_{:,i} $$
#
# The function stays, and training, and the folded $a_i$, choose some $s_i$ without any care for us. One scale a tensor must reach the
# largest row, and the small rows get few steps or none. An ordinary row sums hundreds of inputs; a depthwise row has 9 weights of one channel, and
# when they vanish the channel is gone. In a MobileNet trained on large photographs the rows of one layer differ widely (Nagel et al. 2019, figure 2). Ours?

# %% [markdown] lang="zh"
# ## 6 · 深度可分离网络为什么会垮
#
# 对 $s > 0$ 有 $\mathrm{relu}(s u) = s\, \mathrm{relu}(u)$，所以通道 $i$ 可以在一层里缩小、在下一层里放大：
#
# $$ W^{(1)}_i \leftarrow W^{(1)}_i / s_i, \quad b^{(1)}_i \leftarrow b^{(1)}_i / s_i, \quad W^{(2)}_{:,i} \leftarrow s_i W^{(2)}_{:,i} $$
#
# 函数不变；而训练过程和折叠进来的 $a_i$ 会随意选定某组 $s_i$，并不为我们着想。整个张量共用一个缩放因子，就得照顾最大的那一行，小的行只分到几个台阶，甚至一个也没有。
# 普通的一行要对几百个输入求和；深度卷积的一行只有一个通道的 9 个权重，它们一消失，这个通道就没有了。在大型照片数据上训练的 MobileNet 中，同一层各行的大小相差悬殊（Nagel et al. 2019，图 2）。我们的呢？

# %%
affine = {name: m for name, m in network.named_children() if isinstance(m, (nn.Conv2d, nn.Linear))}
for name, m in affine.items():
    rows = m.weight.detach().abs().flatten(1).amax(1)
    print(f"layer {name:>2} {tuple(m.weight.shape)!s:16} largest row / median {rows.max() / rows.median():.1f}")
    assert rows.max() / rows.median() < 20

# %% [markdown] lang="en"
# A few times only: one epoch on digits is a mild teacher. So at 8 bits ours will *not* fall. Two ways to see what happens in the large
# ones: spread the channels ourselves, which changes no answer (try it), or use fewer bits (section 7).
#
# **Predict:** factors up to $2^3$ up or down on each channel, then 8 bits with one scale a tensor. How many of 2,000 images are still
# right?

# %% [markdown] lang="zh"
# 只有几倍而已：在数字图像上训练一轮，还不算厉害。所以 8 比特时，我们的网络*不会*垮。要看大网络里发生的事，有两种办法：自己把各通道的大小拉开，这不改变任何答案（试试看）；
# 或者用更少的比特（第 7 节）。
#
# **先猜：** 给每个通道乘上一个因子，最大放大或缩小 $2^3$ 倍，再用整个张量一个缩放因子的 8 比特量化。2,000 张图像里还能答对多少？

# %%
equalization_explorer(network, some_images, some_labels)

# %% [markdown] lang="en"
# The same without moving parts. Left: the rows of the second depthwise layer at 3 octaves; what lies below the dashed line becomes 0. Right:
# accuracy at 8 bits against the spread. The equalized network (section 8) stands on one level: it is the same whatever the spread
# was.

# %% [markdown] lang="zh"
# 下面是静态版。左：拉开 3 个倍频程时，第二个深度卷积层的各行；虚线以下的全变成 0。右：8 比特时准确率随拉开程度的变化。
# 均衡之后的网络（第 8 节）是一条平线：不管怎样拉开，结果都一样。

# %%
octaves = [0, 1, 2, 3, 4]
spread = {"one scale a tensor": [], "equalized, one scale a tensor": []}
for many in octaves:
    for name, even in zip(spread, (False, True)):
        spread[name].append(equalization_values(network, some_images, some_labels, many, 8, even))
fig, (left, right) = plt.subplots(1, 2)
draw_rows(left, spread["one scale a tensor"][3])
lines = {name: (octaves, [100 * v.accuracy for v in values]) for name, values in spread.items()}
plots.curves(lines, "spread (octaves up and down)", "accuracy (%)", "8 bits", ax=right)
alone, even = ([v.accuracy for v in values] for values in spread.values())
print("one scale:", [f"{a:.1%}" for a in alone], " equalized:", [f"{a:.1%}" for a in even])
lost = [v.lost for v in spread["one scale a tensor"]]
print("rows that become 0:", [f"{share:.0%}" for share in lost])
assert lost[0] == 0 and lost[3] > 0
assert alone[0] - alone[3] > 0.3 and max(even) - min(even) < 0.005 and abs(even[3] - alone[0]) < 0.02

# %% [markdown] lang="en"
# ## 7 · At how many bits does ours fall?
#
# Weights only, the whole test set, the first network.

# %% [markdown] lang="zh"
# ## 7 · 我们的网络到几比特才垮？
#
# 只量化权重，用全部测试图像，取第一个网络。

# %%
falls = {}
print("bits   tensor   row")
for bits in (8, 6, 5, 4, 3):
    for grain in ("tensor", "row"):
        falls[bits, grain] = measure.n_errors(quantization.quantize_layers(network, bits, grain), X, labels)
    print(f"{bits:4}   {falls[bits, 'tensor']:6}  {falls[bits, 'row']:5}")
assert abs(falls[8, "tensor"] - first_errors) < 0.1 * first_errors
assert falls[4, "tensor"] > 1.5 * first_errors and falls[4, "tensor"] > falls[4, "row"] > first_errors

# %% [markdown] lang="en"
# At 8 bits nothing happens, as predicted. At 4 bits one scale a tensor fails. From here on: 4 bits, one scale a tensor, the setting of the simplest
# integer machine.

# %% [markdown] lang="zh"
# 8 比特时平安无事，与预测相符。到 4 比特，整个张量一个缩放因子就不行了。下面都取 4 比特、整个张量一个缩放因子，也就是最简单的整数机器的设置。

# %% [markdown] lang="en"
# ## 8 · Equalize and correct, without training
#
# With $r^{(1)}_i = \max|W^{(1)}_i|$ leaving the channel and $r^{(2)}_i = \max|W^{(2)}_{:,i}|$ reading it, both sides get the same range if
#
# $$ s_i = \sqrt{r^{(1)}_i / r^{(2)}_i} \quad\Rightarrow\quad \frac{r^{(1)}_i}{s_i} = s_i\, r^{(2)}_i = \sqrt{r^{(1)}_i\, r^{(2)}_i} $$
#
# That is *cross-layer equalization*; sweeps over all pairs until nothing moves. *Bias correction* mends something else. The 9 rounding errors of a
# depthwise row do not average out, so the mean of the output moves, and a bias can take that back:
#
# $$ \mathbb{E}[\hat y - y]_i = \bigl((\hat W - W)\, \mathbb{E}[x]\bigr)_i, \qquad b_i \leftarrow b_i - \mathbb{E}[\hat y - y]_i $$
#
# **Predict:** which of the two helps more at 4 bits, and do they help each other?

# %% [markdown] lang="zh"
# ## 8 · 不经训练的均衡与修正
#
# 设 $r^{(1)}_i = \max|W^{(1)}_i|$ 是写出这个通道的最大权重，$r^{(2)}_i = \max|W^{(2)}_{:,i}|$ 是读入这个通道的最大权重。取
#
# $$ s_i = \sqrt{r^{(1)}_i / r^{(2)}_i} \quad\Rightarrow\quad \frac{r^{(1)}_i}{s_i} = s_i\, r^{(2)}_i = \sqrt{r^{(1)}_i\, r^{(2)}_i} $$
#
# 两边的范围就相等了。这就是*跨层均衡*；对所有相邻层反复进行，直到不再变化。*偏差修正*修的是另一样东西：深度卷积每行只有 9 个舍入误差，抵消不掉，输出的均值就会偏移，
# 而偏置可以把它补回来：
#
# $$ \mathbb{E}[\hat y - y]_i = \bigl((\hat W - W)\, \mathbb{E}[x]\bigr)_i, \qquad b_i \leftarrow b_i - \mathbb{E}[\hat y - y]_i $$
#
# **先猜：** 4 比特时两者哪个帮助更大？两个一起用，会不会更好？

# %%
W1, W2 = torch.tensor([[8.0, -2.0], [1.0, 0.5]]), torch.tensor([[2.0, 4.0]])
V1, _, V2 = quantization.equalize_pair(W1, None, W2)
print("ranges of two channels:", quantization.channel_ranges(W1, W2), "->", quantization.channel_ranges(V1, V2))
assert V1.tolist() == [[4, -1], [2, 1]] and V2.tolist() == [[4, 2]]

even = quantization.equalize(network)
assert (measure.predict(even, some) - measure.predict(network, some)).abs().max() < 1e-3  # the same function
spread_out = quantization.rescale_channels(network, {0: torch.full((16,), 5.0)})
again = quantization.equalize(spread_out)
assert all(a.allclose(b, rtol=0.01, atol=1e-3) for a, b in zip(again.parameters(), even.parameters()))

# %%
rows = calibration.layer_inputs(network, images, "17")[0]  # of the last, linear layer: (rows, 32)
W = network[17].weight.detach()
W_hat = quantization.fake_quantize_weights(W, FEW_BITS)
shift = quantization.output_shift(W, W_hat, rows.mean(0))
measured = (rows @ W_hat.T - rows @ W.T).mean(0)
print("shift of the ten logits, predicted:", [f"{v:+.2f}" for v in shift.tolist()])
assert shift.allclose(measured, atol=1e-4)

# %% [markdown] lang="en"
# ## 9 · All methods, equal budgets
#
# The arms, each for three networks. Whoever trains gets the same 32 updates on images that the network has not seen:
#
# - *round*: 32 updates in float, then round to nearest. That is the baseline, and the float network before the rounding is the
#   mark: the *gap* is what lies between the two;
# - *bias*, *equalize*, *both*: the same tuned float network, repaired as in section 8;
# - *AdaRound*: equalized; all but the depthwise layers rounded up or down for the sake of the output (chapter 3.2); biases corrected;
# - *QAT*: equalized, then the 32 updates *through* the rounding; *LSQ*: 32 updates with a learned step.
#
# **Predict:** which share of the gap does each close? Which is best? Is training always better than no training?

# %% [markdown] lang="zh"
# ## 9 · 所有方法，同样的预算
#
# 各组如下，每组三个网络。凡是训练的，都用网络没见过的图像更新 32 步：
#
# - *round*：先以浮点更新 32 步，再就近取整。这是基线；取整之前的浮点网络是目标，两者之差就是要弥补的*差距*；
# - *bias*、*equalize*、*both*：同一个微调过的浮点网络，按第 8 节修补（修偏置、均衡、两者都用）；
# - *AdaRound*：先均衡；除深度卷积层以外，都为了输出而选择向上或向下取整（第 3.2 章）；最后修正偏置；
# - *QAT*：先均衡，再*带着取整*更新 32 步；*LSQ*：以可学习的步长更新 32 步。
#
# **先猜：** 每种方法能弥补差距的多少？哪个最好？训练一定比不训练好吗？


# %%
def tuned(model, seed):
    """The budget: 32 updates of 128 images, warm-up and cosine."""
    n_steps, part = n_updates(N_TUNE), slice(N_TRAIN, N_TRAIN + N_TUNE)
    train(
        model,
        digits.train_images[part],
        digits.train_labels[part],
        optimizer=Adam(list(model.parameters()), lr=TUNE_LR),
        schedule=lambda step: warmup_cosine(step, n_steps, TUNE_LR, 3),
        seed=seed,
        progress=False,
    )
    return model


def rounded(model):
    return quantization.quantize_layers(model, FEW_BITS, "tensor")


def adarounded(model):
    """Every layer but the depthwise ones, each rounded for its own output."""
    result = rounded(model)
    for name, layer in model.named_children():
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and getattr(layer, "groups", 1) == 1:
            W = layer.weight.detach().flatten(1)
            s, z = quantization.weight_qparams(W, FEW_BITS)
            q = quantization.adaround(W, calibration.layer_inputs(model, images, name)[0], s, z, FEW_BITS, n_steps=150)
            result.get_submodule(name).weight.data = quantization.dequantize(q, s, z).reshape(layer.weight.shape)
    return result


def trained_through(attach, model, seed):
    return quantization.make_permanent(tuned(attach(copy.deepcopy(model)), seed))


# %%
judged = X[::2], labels[::2]  # 5,000 test images
arms: dict[str, list[int]] = {}
equalized = []  # the tuned float networks, equalized: section 10 goes on with them
for seed, start in zip(SEEDS, folded):
    floating = tuned(copy.deepcopy(start), seed)
    even = quantization.equalize(floating)
    equalized.append(even)
    results = {
        "float": floating,
        "round": rounded(floating),
        "bias": quantization.correct_biases(rounded(floating), floating, images),
        "equalize": rounded(even),
        "both": quantization.correct_biases(rounded(even), even, images),
        "AdaRound": quantization.correct_biases(adarounded(even), even, images),
        "QAT": trained_through(
            lambda m: quantization.attach_fake_quant(m, FEW_BITS, "tensor"), quantization.equalize(start), seed
        ),
        "LSQ": trained_through(lambda m: quantization.attach_lsq(m, FEW_BITS), start, seed),
    }
    for name, model in results.items():
        arms.setdefault(name, []).append(measure.n_errors(model, *judged))
shares = {name: [(r - e) / (r - f) for r, e, f in zip(arms["round"], errors, arms["float"])] for name, errors in arms.items()}
NOTHING = [0.0] * len(SEEDS)  # the share of the baseline
for name, errors in arms.items():
    said = "" if name in ("float", "round") else measure.verdict(shares[name], NOTHING)
    print(f"{name:9} errors {errors!s:20} share of the gap " + "  ".join(f"{s:4.0%}" for s in shares[name]) + f"  {said}")

# %%
for name, other in (("both", "bias"), ("AdaRound", "both"), ("QAT", "both"), ("LSQ", "both")):
    print(f"{name:8} against {other:5}: {measure.verdict(shares[name], shares[other])}")
for name in ("bias", "both", "AdaRound", "QAT", "LSQ"):
    assert min(shares[name]) > 0.5, (name, shares[name])
assert min(shares["both"]) > max(min(shares["equalize"]), 0.75) and min(shares["QAT"]) > 0.75

# %%
fig, ax = plt.subplots(figsize=(9, 3.4))
for k, name in enumerate(name for name in arms if name not in ("float", "round")):
    ax.plot([k] * len(SEEDS), [100 * v for v in shares[name]], plots.MARKERS[k], color=plots.COLORS[k], label=name)
ax.axhline(0, color="0.4", linestyle="--")
ax.axhline(100, color="0.4", linestyle=":")
ax.set_xticks(range(6), [name for name in arms if name not in ("float", "round")])
_ = ax.set(ylabel="share of the gap (%)", title="4 bits, one scale a tensor; one mark a network")

# %% [markdown] lang="en"
# Dashed: rounding to nearest. Dotted: the float network. Read three things.
#
# - *Bias correction* alone closes most of the gap: with 9 weights a row the damage is largely a moved mean. *Equalization* alone
#   does less, and how much depends on the network (look at its row); the two together close more than three quarters on each network, without a single gradient.
# - AdaRound, and training through the rounding, go on from there. At 32 updates the differences between them are small: read the verdicts, not
#   the ranks.
# - LSQ has to find its step in the same 32 updates. In the published results it trains for tens of epochs; a method that needs a
#   long budget is not refuted by a short one, and does not win it either.

# %% [markdown] lang="zh"
# 虚线是就近取整，点线是浮点网络。请看三点。
#
# - 单靠*偏差修正*就补回了大部分差距：每行只有 9 个权重时，损失主要来自均值的偏移。单靠*均衡*就差一些，而且因网络而异（看它那一行）；两者合用，
#   在每个网络上都补回四分之三以上，而且一次梯度也没有用到。
# - AdaRound 和带着取整的训练再往前走一步。只更新 32 步，它们之间差别很小：请看结论，不要看名次。
# - LSQ 要在同样的 32 步里找到自己的步长。论文里它要训练几十轮；需要长预算的方法，短预算驳不倒它，但它也赢不了短预算的比赛。

# %% [markdown] lang="en"
# ## 10 · Mixed precision: which layer gets the bits?
#
# At 4 bits there is little left to win, so the budget is smaller: the bytes that 3 bits everywhere would cost. Measure on calibration images what each
# layer loses *alone* at each number of bits (biases corrected, as they will be in the end), then choose under the budget:
#
# $$ \min_{b_1, b_2, \dots} \sum_l L_l(b_l) \quad\text{subject to}\quad \sum_l \text{bytes}_l(b_l) \le \text{budget} $$
#
# `allocate_bits` solves it exactly. **Predict:** which layers will get more than 3 bits: the depthwise ones (few weights) or the
# pointwise ones (many)?

# %% [markdown] lang="zh"
# ## 10 · 混合精度：比特给哪一层？
#
# 4 比特时已经没有多少可赢的，所以预算更小：等于各层都用 3 比特的字节数。先在校准图像上测出每一层*单独*用各种比特数时损失多少（偏置照最终的做法修正过），再在预算之内选择：
#
# $$ \min_{b_1, b_2, \dots} \sum_l L_l(b_l) \quad\text{subject to}\quad \sum_l \text{bytes}_l(b_l) \le \text{budget} $$
#
# `allocate_bits` 给出精确解。**先猜：** 哪些层会分到 3 比特以上：深度卷积层（权重少），还是逐点卷积层（权重多）？

# %%
CHOICES = (2, 3, 4, 6)
few, truth = images[:250], digits.train_labels[-N_CALIBRATION:][:250]


def corrected(quantized, model):
    return quantization.correct_biases(quantized, model, few)


mixed: dict[str, list[int]] = {"3 bits everywhere": [], "mixed": []}
choices = []
for model in equalized:

    def calibration_loss(quantized, model=model):
        return float(cross_entropy(measure.predict(corrected(quantized, model), few), truth))

    costs = quantization.sensitivities(model, calibration_loss, CHOICES, "tensor")
    sizes = {b: quantization.layer_bytes(model, b, "tensor") for b in CHOICES}
    budget = sum(sizes[3].values())
    chosen = quantization.allocate_bits(costs, {name: {b: sizes[b][name] for b in CHOICES} for name in costs}, budget)
    used = sum(sizes[b][name] for name, b in chosen.items())
    choices.append(chosen)
    for name, bits in (("3 bits everywhere", 3), ("mixed", chosen)):
        network_at = corrected(quantization.quantize_layers(model, bits, "tensor"), model)
        mixed[name].append(measure.n_errors(network_at, *judged))
    print(f"{used:,} of {budget:,} bytes: {chosen}")
    predicted = [sum(costs[name][b] for name, b in way.items()) for way in (dict.fromkeys(costs, 3), chosen)]
    assert used <= budget and predicted[1] <= predicted[0]
assert any(chosen != choices[0] for chosen in choices)
print(mixed, measure.verdict(mixed["mixed"], mixed["3 bits everywhere"], higher_is_better=False))

# %% [markdown] lang="en"
# Read the three lists: no rule of thumb gives them, and they differ between networks that only their seeds tell apart. The search minimizes a
# *predicted* sum, which cannot be above that of 3 bits everywhere; what the test set says is the verdict. With 250 images, and losses that do not quite
# add up, "no difference shown" is a possible and honest end. A larger network has layers that differ more.

# %% [markdown] lang="zh"
# 看看这三张列表：没有哪条经验法则能给出它们，而且只因种子不同，网络之间就不一样。搜索最小化的是*预测的*总和，它不会高于各层都用 3 比特；测试集怎么说，则看最后的结论。
# 只有 250 张图像，各层的损失也不能完全相加，所以“看不出差别”也是可能的、诚实的结果。更大的网络，各层之间差别也更大。

# %% [markdown] lang="en"
# ## 11 · Time: when is int8 faster?
#
# The bound first. At batch 1 a linear layer reads each weight once, so it is limited by bytes: int8 can be at most 4 times as fast. And only if
# both read from the *same* cache level: where float weights fall out of a cache and int8 weights do not, a larger ratio is a merit of the cache.
#
# The engine is the one inside torch (`torch.ops.quantized.linear`: packed int8 weights, 8-bit inputs, requantized outputs), against
# `nn.functional.linear` in float32, one thread. Its tensor types are marked as deprecated; the kernels are those of FBGEMM or oneDNN.
# Chapter 6.3 (planned) takes a runtime of its own.
#
# **Predict:** at which width does int8 begin to pay: 256, 1,024 or 2,048? And a plain product of int8 matrices, `torch._int_mm`?

# %% [markdown] lang="zh"
# ## 11 · 时间：int8 什么时候更快？
#
# 先看上限。批大小为 1 时，线性层每个权重只读一次，速度受字节数限制：int8 最多快 4 倍。而且前提是两者都从*同一级*缓存读取：
# 如果浮点权重放不进某级缓存，而 int8 权重放得进，那么更大的比值是缓存的功劳。
#
# 这里用 torch 自带的引擎（`torch.ops.quantized.linear`：打包的 int8 权重，8 比特输入，输出重新量化），与 float32 的 `nn.functional.linear` 比较，单线程。
# 它的张量类型已标为弃用；计算内核来自 FBGEMM 或 oneDNN。第 6.3 章（计划中）会用专门的运行时。
#
# **先猜：** 宽度到多少时 int8 开始划算：256、1,024 还是 2,048？如果只是把两个 int8 矩阵相乘（`torch._int_mm`）呢？

# %%
warnings.filterwarnings("ignore", message="torch.quantize_per_tensor", category=UserWarning)
faster = {}
for width in (256, 1_024, 2_048):
    g = torch.Generator().manual_seed(width)
    W, bias = torch.randn(width, width, generator=g) / width**0.5, torch.zeros(width)
    q_W = torch.quantize_per_tensor(W, float(W.abs().max() / 127), 0, torch.qint8)
    packed = torch.ops.quantized.linear_prepack(q_W, bias)
    for batch in (1, 32):
        x = torch.randn(batch, width, generator=g)
        s, z = quantization.choose_qparams(-4.0, 4.0, 8, symmetric=False, signed=False)
        q_x = torch.quantize_per_tensor(x, float(s), int(z), torch.quint8)
        theirs = torch.ops.quantized.linear(q_x, packed, float(s), int(z)).dequantize()
        assert (theirs - x @ W.T).abs().mean() < 3 * float(s)  # it computes the layer
        faster[width, batch] = measure.speed_ratio(
            lambda x=x, W=W, bias=bias: nn.functional.linear(x, W, bias),
            lambda q_x=q_x, packed=packed: torch.ops.quantized.linear(q_x, packed, 0.03, 128),
            n_repeats=9,
        )
        kilobytes = 4 * width**2 // 1024, width**2 // 1024
        print(
            f"{width:5} wide, batch {batch:2}: {faster[width, batch]}   weights {kilobytes[0]:,} kB against {kilobytes[1]:,} kB"
        )
assert max(faster[width, batch].high for width, batch in faster if width > 256) > 1
assert faster[2_048, 1].high > faster[256, 1].low  # intervals, since machines are busy

# %%
A = torch.randint(-128, 128, (32, 1_024), dtype=torch.int8, generator=g)
B = torch.randint(-128, 128, (1_024, 1_024), dtype=torch.int8, generator=g)
assert torch._int_mm(A, B).equal(A.int() @ B.int())
A_float, B_float = A.float(), B.float()
plain = measure.speed_ratio(lambda: A_float @ B_float, lambda: torch._int_mm(A, B), n_repeats=5)
print(f"a plain product of int8 matrices against float32: {plain}")

# %% [markdown] lang="en"
# A small layer has nothing to gain: quantizing, checking and requantizing cost more than its products. A wide one does. And the last line is a
# warning: integer *types* are no speed. Without kernels that use the processor's 8-bit instructions, or on a processor that has none for them, a
# product of integers can be many times slower than one of floats; read your own line. Where a ratio exceeds 4, look at the kilobytes and
# at the caches of your machine before you believe it.

# %% [markdown] lang="zh"
# 小的层没有什么好处：量化、检查、重新量化的开销比乘法本身还大。宽的层才划算。最后一行是个警告：整数*类型*本身并不快。
# 如果内核没有用上处理器的 8 位指令，或者处理器根本没有这种指令，整数乘法可能比浮点乘法慢许多倍；请看你自己机器上的那一行。
# 比值超过 4 时，先对照一下字节数和机器的缓存，再决定信不信。

# %% [markdown] lang="en"
# ## Summary
#
# - The document's listing fails at its first call. Behind the missing function wait five more faults; the worst of them, a lost
#   scale, leaves the accuracy almost untouched. A mended one is four lines.
# - A batch normalization folds into the layer before it, exactly, and it must be folded first.
# - Integer inference: codes, int32 sums with int32 biases, one multiplication by $M_0 2^{-n}$. It equals its simulation to the last integer.
# - Equal functions have unequal weights. Spread channels ruin 8 bits with one scale a tensor; equalization undoes any spread.
# - On digits, 8 bits cost nothing and 4 bits with one scale a tensor cost much. Bias correction with equalization closes most of that gap
#   without training; a short training through the rounding does about as well.
# - Bits a layer can be chosen by measured sensitivity, exactly, under a budget of bytes. int8 pays on wide layers, with kernels made for it.
#
# **Functions used**
#
# - `course_lib.models.depthwise_cnn`
# - folding: `course_lib.quantization.fold_batch_norm`, `course_lib.quantization.fold_batch_norms`
# - calibration: `course_lib.calibration.observe_inputs`, `course_lib.calibration.input_qparams`, `course_lib.calibration.layer_inputs`
# - integers: `course_lib.quantization.fixed_point_multiplier`, `course_lib.quantization.rounding_right_shift`,
#   `course_lib.quantization.requantize`, `course_lib.quantization.quantize_bias`, `course_lib.quantization.integer_linear`,
#   `course_lib.quantization.integer_conv2d`, `course_lib.quantization.IntegerLayer`, `course_lib.quantization.IntegerNetwork`
# - equalization: `course_lib.quantization.channel_ranges`, `course_lib.quantization.equalize_pair`, `course_lib.quantization.equalize`,
#   `course_lib.quantization.rescale_channels`, `course_lib.quantization.output_shift`, `course_lib.quantization.correct_biases`
# - mixed precision: `course_lib.quantization.quantize_layers`, `course_lib.quantization.layer_bytes`,
#   `course_lib.quantization.sensitivities`, `course_lib.quantization.allocate_bits`
# - interactive figure: `course_lib.widgets.practice_quantization.equalization_explorer`,
#   `course_lib.widgets.practice_quantization.equalization_values`, `course_lib.widgets.practice_quantization.EqualizationValues`,
#   `course_lib.widgets.practice_quantization.spread_channels`, `course_lib.widgets.practice_quantization.draw_rows`
#
# **Exercises** An exercise to this chapter is planned. Until then: those of [3.2 Quantization](../../exercises/en/03_2_quantization.ipynb).
#
# **Sources**
#
# - The document, section 4.2.
# - Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only inference", CVPR.
# - Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference", arXiv 1806.08342.
# - Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction", ICCV.
# - Nagel et al. 2020, "Up or down? Adaptive rounding for post-training quantization", ICML.
# - Esser et al. 2020, "Learned step size quantization", ICLR.
# - Howard et al. 2017, "MobileNets", arXiv 1704.04861. Ioffe and Szegedy 2015, "Batch normalization", ICML.
# - Wang et al. 2019, "HAQ: hardware-aware automated quantization with mixed precision", CVPR; Kellerer, Pferschy, Pisinger 2004,
#   "Knapsack Problems", chapter 11.

# %% [markdown] lang="zh"
# ## 小结
#
# - 原文的代码第一次调用就失败了。补上缺少的函数之后，还有五处错误等着；其中最糟的一处，丢掉缩放因子，却几乎不影响准确率。修好的版本只有四行。
# - 批归一化可以精确地折叠进前一层，而且必须最先折叠。
# - 整数推理：编码，带 int32 偏置的 int32 求和，再乘一次 $M_0 2^{-n}$。它与仿真直到最后一个整数都相等。
# - 相同的函数可以有大小悬殊的权重。通道大小拉开之后，整个张量一个缩放因子的 8 比特就毁了；而不管怎样拉开，均衡都能复原。
# - 在数字图像上，8 比特没有损失，4 比特、整个张量一个缩放因子则损失很大。偏差修正加均衡不经训练就补回了大部分；带着取整短暂训练，效果与此相近。
# - 可以按测得的敏感度，在字节预算之内精确地选择每层的比特数。int8 在宽的层上才划算，还得有专门的内核。
#
# **用到的函数**
#
# - `course_lib.models.depthwise_cnn`
# - 折叠：`course_lib.quantization.fold_batch_norm`、`course_lib.quantization.fold_batch_norms`
# - 校准：`course_lib.calibration.observe_inputs`、`course_lib.calibration.input_qparams`、`course_lib.calibration.layer_inputs`
# - 整数：`course_lib.quantization.fixed_point_multiplier`、`course_lib.quantization.rounding_right_shift`、
#   `course_lib.quantization.requantize`、`course_lib.quantization.quantize_bias`、`course_lib.quantization.integer_linear`、
#   `course_lib.quantization.integer_conv2d`、`course_lib.quantization.IntegerLayer`、`course_lib.quantization.IntegerNetwork`
# - 均衡：`course_lib.quantization.channel_ranges`、`course_lib.quantization.equalize_pair`、`course_lib.quantization.equalize`、
#   `course_lib.quantization.rescale_channels`、`course_lib.quantization.output_shift`、`course_lib.quantization.correct_biases`
# - 混合精度：`course_lib.quantization.quantize_layers`、`course_lib.quantization.layer_bytes`、
#   `course_lib.quantization.sensitivities`、`course_lib.quantization.allocate_bits`
# - 交互图：`course_lib.widgets.practice_quantization.equalization_explorer`、
#   `course_lib.widgets.practice_quantization.equalization_values`、`course_lib.widgets.practice_quantization.EqualizationValues`、
#   `course_lib.widgets.practice_quantization.spread_channels`、`course_lib.widgets.practice_quantization.draw_rows`
#
# **练习** 本章的练习在计划中。在此之前，可以做[第 3.2 章的练习](../../exercises/zh/03_2_quantization.ipynb)。
#
# **参考文献**
#
# - 原文第 4.2 节。
# - Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only inference"，CVPR。
# - Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference"，arXiv 1806.08342。
# - Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction"，ICCV。
# - Nagel et al. 2020, "Up or down? Adaptive rounding for post-training quantization"，ICML。
# - Esser et al. 2020, "Learned step size quantization"，ICLR。
# - Howard et al. 2017, "MobileNets"，arXiv 1704.04861。Ioffe and Szegedy 2015, "Batch normalization"，ICML。
# - Wang et al. 2019, "HAQ: hardware-aware automated quantization with mixed precision"，CVPR；Kellerer, Pferschy, Pisinger 2004, "Knapsack Problems"，第 11 章。
