"""What every other package stands on: reasons, errors, observable values, the doors to time and chance. Pure."""
