"""The commands of gcloud, as far as a deploy and a shell with functions need them."""
