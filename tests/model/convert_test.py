"""python/convert.py on the containers and names that checkpoints come in. Skips where torch is not installed."""
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tests' / 'parity'))
try:
    import torch
except ImportError:
    print('skipped: torch is not installed')
    sys.exit(77)
import definitions


def read(path):
    """Tensors of a .safetensors file, and its metadata."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], 'little')
    header = json.loads(data[8:8 + length])
    metadata = header.pop('__metadata__', {})
    types = {'F32': torch.float32, 'F16': torch.float16, 'BF16': torch.bfloat16, 'I64': torch.int64}
    tensors = {}
    for name, info in header.items():
        begin, end = (8 + length + offset for offset in info['data_offsets'])
        tensors[name] = torch.frombuffer(bytearray(data[begin:end]), dtype=types[info['dtype']]).view(info['shape'])
    return tensors, metadata


def convert(folder, checkpoint, *options):
    torch.save(checkpoint, folder / 'in.pth')
    return run(folder, *options)


def run(folder, *options):
    command = [sys.executable, ROOT / 'python' / 'convert.py', folder / 'in.pth', folder / 'out.safetensors', *options]
    return subprocess.run(command, capture_output=True, text=True)


def mmpretrain(name):
    if name.startswith('norm.'):
        return 'backbone.stages.3.' + name
    return name.replace('head.', 'head.fc.') if name.startswith('head.') else 'backbone.' + name


def main():
    network = definitions.randomise(definitions.RepLKNet((1, 1, 1, 1), (8, 8, 8, 8), (13, 7, 5, 3), 5, classes=4), 0)
    state = network.state_dict()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        other = {key: tensor + 1 for key, tensor in state.items()}
        official_22k = {key.replace('head.', 'head.cls_22k.'): tensor for key, tensor in state.items()}
        for checkpoint, options in (
                (state, ()), ({'model': state, 'epoch': 3, 'model_ema': other}, ()), ({'state_dict': state}, ()),
                ({'model': other, 'model_ema': state}, ('--ema',)), (official_22k, ()),
                ({'state_dict': {mmpretrain(key): tensor for key, tensor in state.items()}, 'meta': {}}, ()),
                ({'module.' + key: tensor for key, tensor in state.items()}, ())):
            result = convert(folder, checkpoint, *options)
            assert result.returncode == 0 and not result.stderr, result
            tensors, _ = read(folder / 'out.safetensors')
            assert tensors.keys() == state.keys()
            assert all(torch.equal(tensors[key], state[key]) for key in state)

        for dtype, kind in (('fp16', torch.float16), ('bf16', torch.bfloat16)):
            assert convert(folder, state, '--dtype', dtype).returncode == 0
            tensors, _ = read(folder / 'out.safetensors')
            assert torch.equal(tensors['head.weight'], state['head.weight'].to(kind))

        (folder / 'labels').write_text('cat\ndog\nfish\nbird\n')
        assert convert(folder, state, '--labels', folder / 'labels', '--model', 'mine').returncode == 0
        assert read(folder / 'out.safetensors')[1] == {'format': 'pt', 'model': 'mine', 'labels': 'cat\ndog\nfish\nbird'}

        result = convert(folder, state | {'strange.thing': torch.zeros(3)})
        assert result.returncode == 0 and 'strange.thing' in result.stderr, result
        assert 'strange.thing' not in read(folder / 'out.safetensors')[0]

        (folder / 'out.safetensors').unlink()
        for wrong in ([1, 2], {}, {'a': torch.zeros(1)}, {'model': 3}):
            result = convert(folder, wrong)
            assert result.returncode == 2 and result.stderr.count('\n') == 1, result
        for garbage in (b'', b'garbage', b'\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.'):
            (folder / 'in.pth').write_bytes(garbage)
            result = run(folder)
            assert result.returncode == 2 and result.stderr.count('\n') == 1, result
        (folder / 'in.pth').unlink()
        assert run(folder).returncode == 2
        assert not list(folder.glob('out*'))


if __name__ == '__main__':
    main()
