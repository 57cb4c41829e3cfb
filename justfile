# What CI runs is `just check`.

# start everything in one process
run:
    cargo run --release

# every test, with private databases and brokers
test *ARGS:
    tests/run {{ARGS}}

# what has to hold before a change lands
check:
    .ci/run

# the services as processes of their own, on a private PostgreSQL and NATS
up:
    deploy/local.sh

# the figures of tests/bench/README.md
bench *ARGS:
    tests/bench/run {{ARGS}}
