"""Many processes on one database: a queue, the workers that serve it, and a look at all of them."""
