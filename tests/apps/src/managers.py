# SPDX-License-Identifier: Apache-2.0
# managers.py HOST PORT TEXT: multiprocessing over TCP: a manager's server process, listeners and clients, forked workers.
import multiprocessing
import sys
import time
from multiprocessing.managers import BaseManager

host, port, text = sys.argv[1], int(sys.argv[2]), sys.argv[3]


class Manager(BaseManager):
    pass


store = {}
Manager.register("store", callable=lambda: store)


def serve():
    Manager(address=("127.0.0.1", port), authkey=b"k").get_server().serve_forever()


def work(n):
    m = Manager(address=(host, port), authkey=b"k")
    for i in range(100):
        try:
            m.connect()
            break
        except ConnectionRefusedError:
            time.sleep(0.1)
    m.store().update({n: text * 1000})
    return m.store().get(n)




if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    server = multiprocessing.Process(target=serve, daemon=True)
    server.start()
    with multiprocessing.Pool(4) as pool:
        assert pool.map(work, range(12)) == [text * 1000] * 12
    server.terminate()
