"""What a job keeps of each input: the columns of its parts."""
import json
import re

import numpy as np
import pyarrow as pa

from ..errors import InvalidArgument


class Wanted:
    """Read from text such as ``top5``, ``logits,stage3`` or ``embedding``.

    ``topK``: classes (list of int32) and probabilities (float32), best first. ``logits``: float32. ``stage1`` to ``stage4``: a
    stage's map as float32 in the order channels, height, width, before any norm. ``embedding``: the mean of the last stage's
    map over its pixels, [channels] float32.
    """

    def __init__(self, text):
        self.text = text
        self.top, self.logits, self.stages, self.embedding = 0, False, [], False
        for word in text.split(","):
            if re.fullmatch(r"top[1-9]\d{0,3}", word) and not self.top:
                self.top = int(word[3:])
            elif word == "logits" and not self.logits:
                self.logits = True
            elif re.fullmatch("stage[1-4]", word) and int(word[5:]) - 1 not in self.stages:
                self.stages.append(int(word[5:]) - 1)
            elif word == "embedding" and not self.embedding:
                self.embedding = True
            else:
                raise InvalidArgument(
                    f"want is '{text}'; allowed: topK, logits, stage1 to stage4 and embedding, each once, between commas"
                )

    def check(self, model):
        if model.classes == 0 and (self.top or self.logits):
            raise InvalidArgument(f"want is '{self.text}'; model {model.name} has no head: stages and embedding are allowed")
        if self.top > max(model.classes, 1):
            raise InvalidArgument(f"want is '{self.text}'; model {model.name} has {model.classes} classes")

    def fields(self):
        numbers = pa.list_(pa.float32())
        fields = []
        if self.top:
            fields += [pa.field("classes", pa.list_(pa.int32())), pa.field("probabilities", numbers)]
        if self.logits:
            fields.append(pa.field("logits", numbers))
        fields += [pa.field(f"stage{stage + 1}", numbers) for stage in self.stages]
        if self.embedding:
            fields.append(pa.field("embedding", numbers))
        return fields

    def meanings(self, model, size):
        """What a reader needs besides the columns, as metadata of a part: shapes of maps, names of classes as a JSON array."""
        found = {f"replk.shape.stage{s + 1}": "x".join(map(str, model.feature_shape(s, size))) for s in self.stages}
        if self.top:
            found["replk.labels"] = json.dumps([model.label(i) for i in range(model.classes)])
        return found

    def run(self, model, pixels):
        """One run of the network: what the columns are made of, {name: float32 [batch, values of a row]}."""
        stages = sorted({*self.stages, *([3] if self.embedding else [])})
        logits, *maps = model.outputs(pixels, bool(self.top or self.logits), stages)
        maps = {stage: m.reshape(*m.shape[:2], -1) for stage, m in zip(stages, maps)}
        results = {} if logits is None else {"logits": logits}
        for stage in self.stages:
            results[f"stage{stage + 1}"] = maps[stage].reshape(len(pixels), -1)
        if self.embedding:
            results["embedding"] = maps[3].mean(axis=2, dtype=np.float64).astype(np.float32)
        return results

    def columns(self, results):
        """{column: [rows, values of a row]} of such results, of as many rows as there are: a row does not depend on others."""
        columns = dict(results)
        if self.top:
            logits = columns["logits"]
            best = np.argsort(-logits, axis=1, kind="stable")[:, : self.top]
            weights = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            columns["classes"] = best.astype(np.int32)
            columns["probabilities"] = np.take_along_axis(weights, best, axis=1).astype(np.float32)
        return columns
