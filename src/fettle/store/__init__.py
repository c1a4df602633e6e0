"""What is kept between processes: projects, keys, files, jobs, models, in one database."""
