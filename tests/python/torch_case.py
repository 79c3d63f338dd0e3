"""What the tests of replk.torch compare with, and which form of the ops they expect."""
import sys

from needs import needs

needs("torch", "pip install torch==2.13.0; ./run test with REPLK_TEST_FRAMEWORKS=1 makes an environment")

from torch.nn.functional import conv2d  # noqa: E402

FORM = sys.argv.pop(1) if sys.argv[1:2] in (["compiled"], ["python"]) else "compiled"


def exact(x, weight, bias, stride, padding, dilation):
    return conv2d(x.double(), weight.double(), None if bias is None else bias.double(), stride, padding, dilation, x.shape[1])
