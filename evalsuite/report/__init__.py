"""The leaderboard: recorded results in, one HTML file and one CSV out."""
