"""An application that counts what its tools did, and reports on the process they ran in."""
