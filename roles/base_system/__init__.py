"""What every host needs: packages, the user, directories, limits, time."""
