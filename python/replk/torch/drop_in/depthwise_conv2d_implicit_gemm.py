"""What the authors' code finds through LARGE_KERNEL_CONV_IMPL, DWCONV_IMPL or PYTHONPATH."""
from replk.torch.implicit_gemm import (  # noqa: F401
    DepthWiseConv2dImplicitGEMM,
    _DepthWiseConv2dImplicitGEMMFP16,
    _DepthWiseConv2dImplicitGEMMFP32,
)

__all__ = ["DepthWiseConv2dImplicitGEMM"]
