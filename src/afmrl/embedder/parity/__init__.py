"""Does a model compute here, or on a server, what it computed where it was trained?"""
