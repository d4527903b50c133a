"""Kernels are grouped by their names, as profilers give them; what overlaps is busy once."""

from __future__ import annotations

import pytest

from gistbench.speed.kernels import (
    MOST_CHARACTERS,
    MOST_KERNELS,
    Launch,
    by_group,
    by_name,
    covered,
    group_of,
    idle_share,
    short,
)

NAMES = {
    "matrix products": [
        "nvjet_hsh_128x256_64x4_2x1_v_bz_coopA_TNT",
        "nvjet_tst_192x192_64x4_1x2_h_bz_coopB_TNN",
        "ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_stages_32x5_tn",
        "sm80_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_stage3_warpsize2x2x1_"
        "tensor16x8x16_execute_kernel__5x_cublas",
        "void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_16x16_128x2_tn_"
        "align8>(cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_16x16_128x2_tn_align8::Params)",
        "void cublasLt::splitKreduce_kernel<32, 16, int, float, __nv_bfloat16, float, "
        "__nv_bfloat16, true, true, false>(cublasLt::cublasSplitKParams<float>, float const*)",
        "void gemvNSP_kernel<__nv_bfloat16, __nv_bfloat16, __nv_bfloat16, float, 1, 32, 4, 1024, "
        "cublasGemvParamsEx<int>>(cublasGemvParamsEx<int>)",
        "void gemv2T_kernel_val<int, int, float, float, float, float, 128, 16, 4, 4, false, false>"
        "(float, float)",
        "void internal::gemvx::kernel<int, int, __nv_bfloat16, __nv_bfloat16, __nv_bfloat16, "
        "float, false, true, true, false, 7, false>(cublasGemvParamsEx<int>)",
        "triton_tem_fused_addmm_0",
        "aten::addmm",
    ],
    "attention": [
        "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128, 64, 64, 4, false, "
        "false, cutlass::bfloat16_t>, false, true>(pytorch_flash::Flash_fwd_params)",
        "void pytorch_flash::flash_bwd_dot_do_o_kernel<true, Flash_bwd_kernel_traits<128, 64, 128, "
        "8, 2, 4, 2, false, false, cutlass::bfloat16_t>>(pytorch_flash::Flash_bwd_params)",
        "fmha_cutlassF_bf16_aligned_64x128_rf_sm80(PyTorchMemEffAttention::AttentionKernel<"
        "cutlass::bfloat16_t, cutlass::arch::Sm80, true, 64, 128, 128, true, true>::Params)",
        "fmha_cutlassB_bf16_aligned_128x64_k128_sm80(PyTorchMemEffAttention::"
        "AttentionBackwardKernel<cutlass::arch::Sm80>::Params)",
        "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128_4x1x1_"
        "kernel0_0",
        "triton_tem_fused_flex_attention_1",
        "aten::_scaled_dot_product_flash_attention_for_cpu",
    ],
    "dequantisation": [
        "void kDequantizeBlockwise<__nv_bfloat16, 512, 64, 8, 2>(float*, unsigned char*, float*, "
        "__nv_bfloat16*, int, int)",
        "void kgemm_4bit_inference_naive<__nv_bfloat16, 128, 16>(int, int, int, __nv_bfloat16*, "
        "unsigned char*, float*, float const*, __nv_bfloat16*, int, int, int, int)",
        "bitsandbytes::gemv_4bit",
        "bitsandbytes::dequantize_4bit",
    ],
    "elementwise": [
        "triton_poi_fused__to_copy_mul_silu_3",
        "triton_red_fused__to_copy_add_mean_mm_mul_pow_rsqrt_5",
        "triton_per_fused__scaled_dot_product_flash_attention_cat_0",
        "_rms_norm_forward_kernel",
        "_block_rms_norm_backward_kernel",
        "_swiglu_forward_kernel",
        "_swiglu_backward_kernel",
        "_triton_rope",
        "liger_cross_entropy_kernel",
        "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<"
        "c10::BFloat16>, std::array<char*, 3ul>>(int, at::native::CUDAFunctor_add<c10::BFloat16>)",
        "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, "
        "at::native::MeanOps<float, float, float, float>, unsigned int, float, 4, 4>>(int)",
        "void at::native::(anonymous namespace)::cunn_SoftMaxForward<8, float, float, float, "
        "at::native::(anonymous namespace)::LogSoftMaxForwardEpilogue>(float*, float const*, int)",
        "void at::native::(anonymous namespace)::fused_dropout_kernel_vec<c10::BFloat16, float>()",
        "aten::silu_backward",
        "aten::_softmax",
        "aten::mul_",
    ],
    "copies": [
        "Memcpy DtoD (Device -> Device)",
        "Memcpy HtoD (Pageable -> Device)",
        "Memset (Device)",
        "void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast<"
        "at::native::direct_copy_kernel_cuda(at::TensorIteratorBase&)::{lambda()#3}>>(int)",
        "void at::native::vectorized_elementwise_kernel<4, at::native::bfloat16_copy_kernel_cuda("
        "at::TensorIteratorBase&)::{lambda(float)#1}, std::array<char*, 2ul>>(int)",
        "void at::native::(anonymous namespace)::CatArrayBatchedCopy_aligned16_contig<"
        "at::native::(anonymous namespace)::OpaqueType<2u>, unsigned int, 4, 64, 64>()",
        "aten::copy_",
    ],
    "optimiser": [
        "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<at::native::"
        "(anonymous namespace)::FusedOptimizerTensorListMetadata<4>, at::native::(anonymous "
        "namespace)::FusedAdamMathFunctor<float, 4, (at::native::ADAM_MODE)1, false>>()",
        "void kOptimizerStatic8bit2StateBlockwise<__nv_bfloat16, 1, 256, 1>(__nv_bfloat16*)",
        "void kOptimizer32bit2State<float, 1>(float*, float*, float*, float*, float*, float)",
        "void kPreconditionOptimizer32bit2State<float, 1, 4096, 8>(float*, float*, float*)",
        "aten::_fused_adamw_",
        "aten::_foreach_norm",
    ],
    "communication": [
        "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
        "ncclDevKernel_AllGather_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
    ],
    "other": [
        "void at::native::(anonymous namespace)::indexSelectSmallIndex<c10::BFloat16, long>()",
        "void at::native::(anonymous namespace)::triu_tril_kernel<bool, int, false>()",
        "aten::transpose",
    ],
}


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group, names in NAMES.items() for name in names]
)
def test_every_kernel_is_in_the_group_of_its_work(group: str, name: str) -> None:
    assert group_of(name) == group


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Memcpy DtoD (Device -> Device)", "Memcpy DtoD (Device -> Device)"),
        ("autograd::engine::evaluate_function: X", "autograd::engine::evaluate_function: X"),
        (
            "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
            "ncclDevKernel_AllReduce_Sum_f32_RING_LL",
        ),
        (
            "void at::native::(anonymous namespace)::fused_dropout_kernel_vec<c10::Half, (bool)1>"
            "(at::cuda::detail::TensorInfo<c10::Half const, unsigned int>, float)",
            "fused_dropout_kernel_vec<Half, (bool)1>",
        ),
        (
            NAMES["copies"][3],
            "elementwise_kernel<128, 4, gpu_kernel_impl_nocast<direct_copy_kernel_cu…",
        ),
    ],
)
def test_names_are_shortened_to_what_tells_them_apart(name: str, shown: str) -> None:
    assert short(name) == shown
    assert len(shown) <= MOST_CHARACTERS


def ran(name: str, start: float, end: float) -> Launch:
    return Launch(name, start, end, end - start)


def test_what_overlaps_is_busy_once_and_the_rest_is_idle() -> None:
    launches = [
        ran("late", 7.0, 8.0),
        ran("long", 1.0, 4.0),
        ran("within", 2.0, 3.0),
        ran("across its end", 3.5, 5.0),
        ran("right behind", 5.0, 5.5),
    ]
    assert covered(launches) == pytest.approx(4.5 + 1.0)
    assert idle_share(covered(launches), 10.0) == pytest.approx(0.45)
    assert covered([]) == 0.0
    assert idle_share(0.0, 10.0) == 1.0
    # The device's clock may run ahead of the host's.
    assert idle_share(10.01, 10.0) == 0.0


def test_shares_are_of_the_kernels_time_and_launches_of_a_step() -> None:
    product, copy = NAMES["matrix products"][0], NAMES["copies"][0]
    launches = [ran(product, 0.0, 3.0), ran(product, 3.0, 6.0), ran(copy, 5.0, 7.0)]
    products, copies = by_group(launches, steps=2)
    assert (products.name, products.seconds_per_step, products.launches_per_step) == (
        "matrix products",
        3.0,
        1.0,
    )
    assert (copies.name, copies.share, copies.launches_per_step) == ("copies", 0.25, 0.5)
    assert [kernel.name for kernel in by_name(launches, steps=2)] == [product, copy]


def test_kernels_that_took_most_are_named_and_no_more_than_a_few() -> None:
    launches = [ran(f"kernel_{number}", 0.0, 1.0 + number) for number in range(40)]
    named = by_name(launches, steps=1)
    assert [kernel.name for kernel in named[:2]] == ["kernel_39", "kernel_38"]
    assert len(named) == MOST_KERNELS
