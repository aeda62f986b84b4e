"""Twenty image files of the kinds that clients send, cut from scikit-learn's two photographs (CC BY 2.0)."""

import io


from PIL import Image
from sklearn.datasets import load_sample_images

FILES = 20
JPEGS = (
    {"quality": 95, "subsampling": 0},
    {"quality": 80, "subsampling": 1},
    {"quality": 75, "subsampling": 2},
    {"quality": 85, "subsampling": 2, "progressive": True},
)


def encoded(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def make():
    """Names and files: all are of colour, or grey, and every fifth is a PNG."""
    sources = [Image.fromarray(array) for array in load_sample_images().images]
    files = {}
    for number in range(FILES):
        source = sources[number % 2]
        left, upper = 13 * number, 7 * number
        image = source.crop((left, upper, left + 97 + 17 * number, upper + 64 + 11 * number))
        if number == 3:
            image = source.resize((1600, 1067))
        if number in (7, 14):
            image = image.convert("CMYK" if number == 7 else "L")
        if number % 5 == 4:
            image = image.convert("RGBA") if number == 9 else image.quantize(64) if number == 19 else image
            if image.mode == "RGBA":
                image.putalpha(128)
            files[f"{number:02}_photo.png"] = encoded(image, "PNG")
        else:
            files[f"{number:02}_photo.jpg"] = encoded(image, **JPEGS[number % 4])
    return files
