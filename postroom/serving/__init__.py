"""The processes of `serve`: what each runs by its roles, how several share sockets and one data folder."""
