"""A REST project as the tutorial of Django REST framework shapes one: books, their authors and what readers say."""
