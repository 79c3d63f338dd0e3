"""Names of classes, by the rules in lib/model/labels.hpp."""
import json
import re

from .errors import Refused


def parse_labels(data, source):
    """The names in a file's bytes."""
    utf16 = data.startswith((b'\xff\xfe', b'\xfe\xff'))
    try:
        text = data.decode('utf-16' if utf16 else 'utf-8-sig')
    except UnicodeDecodeError as error:
        raise Refused(f'{source}: labels: neither UTF-8 nor UTF-16 with a byte-order mark: {error}') from error
    if text.lstrip(' \t\r\n').startswith(('[', '{')):
        try:
            names = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Refused(f'{source}: labels: begin like JSON and are none: {error}') from error
        if isinstance(names, dict):
            names = [names.get(str(index)) for index in range(len(names))]
        for index, name in enumerate(names):
            if not isinstance(name, str) or re.search('[\ud800-\udfff]', name):
                raise Refused(f'{source}: labels: the JSON of {len(names)} has no name (a string) for index {index}')
    else:
        names = [line.removesuffix('\r') for line in text.split('\n')]
        while names and not names[-1]:
            names.pop()
    return [re.sub('[\0-\x1f\x7f]', ' ', name) for name in names]


def read_labels(path):
    most = 16 << 20
    try:
        with open(path, 'rb') as file:
            data = file.read(most + 1)
    except OSError as error:
        raise Refused(f'{path}: cannot be read: {error}') from error
    if len(data) > most:
        raise Refused(f'{path}: labels: more than {most} bytes')
    return parse_labels(data, path)


def label_text(labels):
    """What replk reads these labels from: lines, or JSON where lines would be taken for something else."""
    lines = '\n'.join(labels)
    try:
        if parse_labels(lines.encode(), '') == labels:
            return lines
    except Refused:
        pass
    return json.dumps(labels, ensure_ascii=False)
