"""What runs will need before they are begun: parameters, GPU memory, time and disk, by formula."""
