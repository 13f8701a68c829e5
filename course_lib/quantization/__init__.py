"""Quantization (sections 3.2 and 4.2): fewer bits for each number.

affine        scale and zero point; quantize, dequantize; the document's round(w)
granularity   one scale a tensor, a row or a group; what the scales cost
histogram     counts that do not depend on the order of the batches
observers     calibration: min-max, moving average, percentile, least squares, entropy
error_theory  s^2/12, signal-to-noise ratio, 6.02 dB a bit
rounding      stochastic rounding
adaround      up or down for the sake of the layer's output
fake_quant    rounding in the forward pass, straight through in the backward pass
lsq           the step size as a parameter
qat           both of them put on the layers of a network
codebook      k-means: weights share a few values
scalar        the best scalar quantizers (Lloyd-Max, entropy-coded) and the bound D(R)
packing       codes of b bits to bytes and back

For whole networks (section 4.2):

batch_norm        a normalization folded into the layer before it
integer           fixed-point multipliers, int8 x int8 -> int32, requantization
integer_network   a chain of layers in integers, and its twin in real numbers
equalization      cross-layer equalization, bias correction
mixed             bits a layer by measured sensitivity, under a byte budget
"""

from course_lib.quantization.adaround import adaround, output_error, rectified_sigmoid, rounding_regularizer
from course_lib.quantization.affine import choose_qparams, dequantize, integer_range, quantize, round_to_integer
from course_lib.quantization.batch_norm import fold_batch_norm, fold_batch_norms
from course_lib.quantization.codebook import (
    SharedWeights,
    apply_codebook,
    centroid_gradient,
    codebook_distortion,
    initial_codebook,
    kmeans_codebook,
    nearest_codes,
    share_weights_,
)
from course_lib.quantization.equalization import (
    channel_ranges,
    correct_biases,
    equalize,
    equalize_pair,
    output_shift,
    rescale_channels,
)
from course_lib.quantization.error_theory import peak_to_rms, predicted_snr_db, signal_to_noise_db, uniform_noise_variance
from course_lib.quantization.fake_quant import fake_quantize
from course_lib.quantization.granularity import (
    fake_quantize_weights,
    from_groups,
    quantized_bits,
    to_groups,
    weight_qparams,
)
from course_lib.quantization.histogram import Histogram
from course_lib.quantization.integer import (
    fixed_point_multiplier,
    integer_conv2d,
    integer_linear,
    quantize_bias,
    requantize,
    rounding_right_shift,
)
from course_lib.quantization.integer_network import IntegerLayer, IntegerNetwork
from course_lib.quantization.lsq import lsq_gradient_scale, lsq_initial_scale, lsq_quantize
from course_lib.quantization.mixed import allocate_bits, layer_bytes, quantize_layers, sensitivities
from course_lib.quantization.observers import (
    EntropyObserver,
    MinMaxObserver,
    MovingAverageObserver,
    MSEObserver,
    PercentileObserver,
)
from course_lib.quantization.packing import pack_bits, packed_size_bytes, unpack_bits
from course_lib.quantization.qat import (
    FakeQuantWeight,
    LSQWeight,
    attach_fake_quant,
    attach_input_quant,
    attach_lsq,
    make_permanent,
)
from course_lib.quantization.rounding import quantize_stochastic, stochastic_round
from course_lib.quantization.scalar import (
    SPACE_FILLING_GAP_BITS,
    ScalarQuantizer,
    entropy_coded_scalar,
    gaussian_cells,
    gaussian_distortion_rate,
    gaussian_quantizer,
    lloyd_max,
    rate_gap_bits,
    uniform_quantizer,
)

__all__ = [
    "SPACE_FILLING_GAP_BITS",
    "EntropyObserver",
    "FakeQuantWeight",
    "Histogram",
    "IntegerLayer",
    "IntegerNetwork",
    "LSQWeight",
    "MSEObserver",
    "MinMaxObserver",
    "MovingAverageObserver",
    "PercentileObserver",
    "ScalarQuantizer",
    "SharedWeights",
    "adaround",
    "allocate_bits",
    "apply_codebook",
    "attach_fake_quant",
    "attach_input_quant",
    "attach_lsq",
    "centroid_gradient",
    "channel_ranges",
    "choose_qparams",
    "codebook_distortion",
    "correct_biases",
    "dequantize",
    "entropy_coded_scalar",
    "equalize",
    "equalize_pair",
    "fake_quantize",
    "fake_quantize_weights",
    "fixed_point_multiplier",
    "fold_batch_norm",
    "fold_batch_norms",
    "from_groups",
    "gaussian_cells",
    "gaussian_distortion_rate",
    "gaussian_quantizer",
    "initial_codebook",
    "integer_conv2d",
    "integer_linear",
    "integer_range",
    "kmeans_codebook",
    "layer_bytes",
    "lloyd_max",
    "lsq_gradient_scale",
    "lsq_initial_scale",
    "lsq_quantize",
    "make_permanent",
    "nearest_codes",
    "output_error",
    "output_shift",
    "pack_bits",
    "packed_size_bytes",
    "peak_to_rms",
    "predicted_snr_db",
    "quantize",
    "quantize_bias",
    "quantize_layers",
    "quantize_stochastic",
    "quantized_bits",
    "rate_gap_bits",
    "rectified_sigmoid",
    "requantize",
    "rescale_channels",
    "round_to_integer",
    "rounding_regularizer",
    "rounding_right_shift",
    "sensitivities",
    "share_weights_",
    "signal_to_noise_db",
    "stochastic_round",
    "to_groups",
    "uniform_noise_variance",
    "uniform_quantizer",
    "unpack_bits",
    "weight_qparams",
]
