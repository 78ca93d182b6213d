"""Templates: Mustachio, the language of Postmark's templates, and styles moved into the elements they style.

`syntax` reads a template, `render` fills it with a model, `suggest` tells what model it wants, `examine` does
all three for somebody who writes one, `inline` moves CSS. Nothing here knows of storage, HTTP or mail. A
model is a value of JSON, and only keys of objects and items of arrays are ever looked at.
"""
