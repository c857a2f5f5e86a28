"""The users that services run as: on every host, since its firewall names them. Pure: no pyinfra."""

RAY = "rayrack"
GATEWAY = "rayrack-gateway"
