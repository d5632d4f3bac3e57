"""The shpeft app: one page a step, from training to diagnosis. Start it with ``streamlit run app/main.py``."""
