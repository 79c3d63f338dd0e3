#!/usr/bin/env python3
"""replk eval --shape-bias: made images whose answers are known."""
import gzip
import shutil
import unittest

from replk import IMAGE, MODEL, ROOT, FolderTest, nano_shapes, png, safetensors

CLOTHES = ROOT / "examples" / "fashion-mnist"
LABELS = ["tshirttop", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankleboot"]
# Of each of the 16 categories: the first and the last of ImageNet's classes in it.
IMAGENET = {
    "airplane": (404, 404),   # airliner
    "bear": (294, 297),       # brown bear, sloth bear
    "bicycle": (444, 671),    # tandem, mountain bike
    "bird": (8, 145),        # hen, king penguin
    "boat": (472, 914),       # canoe, yawl
    "bottle": (440, 907),     # beer bottle, wine bottle
    "car": (436, 817),        # station wagon, sports car
    "cat": (281, 286),        # tabby, cougar
    "chair": (423, 857),      # barber's chair, throne
    "clock": (409, 892),      # analog clock, wall clock
    "dog": (152, 268),      # Japanese spaniel, Mexican hairless
    "elephant": (385, 386),   # Indian, African
    "keyboard": (508, 878),   # of a computer, of a typewriter
    "knife": (499, 499),      # cleaver
    "oven": (766, 766),       # rotisserie
    "truck": (555, 867),      # fire engine, trailer truck
}


class OfImageNet(FolderTest):
    def setUp(self):
        super().setUp()
        self.images = self.folder / "images"
        self.images.mkdir()

    def add(self, *names):
        for name in names:
            shutil.copy(IMAGE, self.images / name)

    def bias(self, logits, **named):
        """Of a network whose logits are its head's bias, whatever it sees."""
        weights = self.file("weights.safetensors", safetensors(nano_shapes(1000), given={"head.bias": logits}))
        return self.json("eval", "--model", MODEL, "--size", "32", "--weights", weights, "--threads", "1", "--shape-bias", self.images, **named)

    def test_decisions_by_shape_over_those_by_either(self):
        (self.images / "cat").mkdir()
        self.add("cat/cat7-elephant1.png", "cat1-dog2.png", "cat2-bear.png", "elephant3-cat1.png", "bear1-dog2.png", "cat4-cat9.png")
        logits = [0.0] * 1000
        logits[285] = 8.0
        found = self.bias(logits)
        self.assertEqual((found["images"], found["shape"], found["texture"], found["agreeing"], found["failed"]), (5, 3, 1, 1, 0))
        self.assertEqual(found["shape_bias"], 0.75)

    def test_each_category_has_its_classes(self):
        for i, (word, (first, last)) in enumerate(IMAGENET.items()):
            other = list(IMAGENET)[(i + 1) % 16]
            for index in {first, last}:
                with self.subTest(word=word, index=index):
                    shutil.rmtree(self.images)
                    self.images.mkdir()
                    self.add(f"{word}1-{other}1.png", f"{other}1-{word}1.png")
                    found = self.bias([9.0 if c == index else 0.0 for c in range(1000)])
                    self.assertEqual((found["shape"], found["texture"]), (1, 1))

    def test_the_mean_of_a_category_decides(self):
        """One class of airplanes against all dogs: by the sum, dogs would win."""
        self.add("airplane1-dog1.png")
        logits = [0.0] * 1000
        logits[404], logits[152:269] = 5.1, [5.0] * 117
        self.assertEqual(self.bias(logits)["shape"], 1)
        logits[404] = 4.9
        self.assertEqual(self.bias(logits)["texture"], 1)

    def test_what_no_category_is_decided_for(self):
        self.add("bear1-dog2.png")
        logits = [0.0] * 1000
        logits[0] = 20.0    # a tench, of no category
        logits[499] = 5.0   # a knife
        found = self.bias(logits)
        self.assertEqual((found["shape"], found["texture"], found["shape_bias"]), (0, 0, None))

    def test_names(self):
        base = "eval", "--model", MODEL, "--size", "32", "--threads", "1"
        weights = self.file("w.safetensors", safetensors(nano_shapes(1000)))
        base = *base, "--weights", weights, "--shape-bias", self.images
        self.refuse(*base, names=[self.images])
        for name, names in ({"cat.png": ["cat7-elephant1.png"], "cat1-lion2.png": ["'lion'", "airplane"], "cat1-dog2-3.png": [],
                             "Cat1-dog2.png": [], "x" * 200 + ".png": []}).items():
            self.add(name)
            self.refuse(*base, names=[self.images / name, *names])
            (self.images / name).unlink()
        self.refuse("eval", "--model", MODEL, names=["--images", "--shape-bias"])
        self.add("cat1-dog2.png")
        for more in ("--images", self.images), ("--shard", "1/2"), ("--out", self.folder / "x.csv"):
            self.refuse(*base, *more, names=[more[0]])
        labelless = self.file("l.safetensors", safetensors(nano_shapes(10)))
        self.refuse("eval", "--model", MODEL, "--weights", labelless, "--shape-bias", self.images, names=["class 0", "label"])


class OfClothes(FolderTest):
    def test_as_many_as_are_recognised(self):
        """Test images as they are, said to have their class's shape and another's texture: those that eval hits are decided by
        shape; those that it takes for the next class, by texture."""
        with gzip.open(CLOTHES / "first200-images-idx3-ubyte.gz") as images, gzip.open(CLOTHES / "first200-labels-idx1-ubyte.gz") as labels:
            pixels, classes = images.read()[16:], labels.read()[8:]
        folder = self.folder / "conflicts"
        folder.mkdir()
        for i, label in enumerate(classes):
            rows = [bytes(v for v in pixels[784 * i + 28 * y :][:28] for _ in range(3)) for y in range(28)]
            (folder / f"{LABELS[label]}{i}-{LABELS[(label + 4) % 10]}{i}.png").write_bytes(png(28, 28, rows))
        nano = "eval", "--model", "replknet-nano", "--threads", "1"
        out = self.folder / "hits.csv"
        self.succeed(*nano, "--images", CLOTHES / "first200-images-idx3-ubyte.gz", "--out", out)
        rows = [[int(value) for value in line.split(",")[-3:]] for line in out.read_text().splitlines()[2:]]
        found = self.json(*nano, "--shape-bias", folder)
        self.assertEqual(found["images"], 200)
        self.assertEqual(found["shape"], sum(predicted == label for label, predicted, rank in rows))
        self.assertEqual(found["texture"], sum(predicted == (label + 4) % 10 for label, predicted, rank in rows))
        self.assertGreater(found["texture"], 0)
        (folder / "bag1-coat1.png").write_bytes(b"no picture")
        again = self.json(*nano, "--shape-bias", folder, code=1)
        self.assertEqual((again["images"], again["failed"]), (200, 1))


if __name__ == "__main__":
    unittest.main()
