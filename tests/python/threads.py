"""What tests of several threads share."""
import threading


def on_four_threads(work):
    """work(0) to work(3), side by side; returns when all have ended."""
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
