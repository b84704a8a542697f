"""Fill the library and print the token of its librarian: `python -m tests.live.lending.accounts`."""

import django


def main() -> None:
    django.setup()
    from django.contrib.auth.models import User
    from django.core.files.base import ContentFile
    from rest_framework.authtoken.models import Token

    from tests.contrib.rest_framework.library.models import Author, Book, Review

    librarian = User.objects.create_superuser("librarian")
    ann = Author.objects.create(pk=1, name="Ann")
    first = Book.objects.create(pk=1, title="First", author=ann, pages=400, price="9.99")
    first.cover.save("first.png", ContentFile(b"\x89PNG\r\n\x1a\n"))
    Book.objects.create(pk=2, title="é & ü", author=ann)
    Review.objects.create(pk=1, book=first, owner=librarian, text="Fine.", stars=5)
    print(Token.objects.create(user=librarian).key)


if __name__ == "__main__":
    main()
